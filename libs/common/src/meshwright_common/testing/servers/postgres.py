"""PostgreSQL 15 from Debian, the oldest that the platform runs on."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshwright_common.storage.embedded import process
from meshwright_common.storage.embedded.process import Account
from meshwright_common.testing.servers.base import LOOPBACK, Server, installed

SUPERUSER: Final = "postgres"
LOGINS: Final = "host all all 127.0.0.1/32 scram-sha-256\n"
"""The whole of pg_hba.conf."""

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    # Every process of a test run has pools here.
    "max_connections": "300",
    "shared_buffers": "64MB",
    # A power cut may destroy it, a killed server does not.
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
}


class DebianPostgres(Server):
    """A PostgreSQL server. `superuser_url` is its address."""

    name = "postgres"
    # Fast shutdown, then immediate.
    stop_ladder = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._password_file = folder / "password"
        kept = self._password_file.exists()
        self.password = self._password_file.read_text() if kept else secrets.token_urlsafe(16)

    @property
    def superuser_url(self) -> str:
        """The superuser's URL of its maintenance database.

        Roles are the server's, not a database's: whoever makes some on a shared server gives them
        this URL's password, so that all agree.
        """
        return f"postgresql://{SUPERUSER}:{self.password}@{LOOPBACK}:{self.port}/postgres"

    @property
    def address(self) -> str:
        return self.superuser_url

    @property
    def variables(self) -> Mapping[str, str]:
        login = f"meshwright_{{service}}:{self.password}"
        return {
            "MESHWRIGHT_DATABASE__URL": f"postgresql://{login}@{LOOPBACK}:{self.port}/meshwright"
        }

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _account(self) -> Account | None:
        return process.unprivileged_account(self._data)

    def _launch(self) -> None:
        programs = installed("postgres")
        process.prepare_folder(self._data, self._account())
        if not (self._data / "PG_VERSION").exists():
            self._initialise(programs)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = {**SETTINGS, "port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with process.handed_down(self._data, self._account()) as (data, descriptors):
            # It ends its children itself, therefore not by SIGKILL.
            self._run(
                programs / "postgres",
                *("-D", data, *options),
                death_signal=signal.SIGQUIT,
                pass_fds=descriptors,
            )

    def _initialise(self, programs: Path) -> None:
        form = ("--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync")
        with process.handed_down(self._data, self._account()) as (data, descriptors):
            initdb = (programs / "initdb", "-D", data, "-U", SUPERUSER, *form)
            self._run_to_its_end(*initdb, pass_fds=descriptors)
            (self._data / "pg_hba.conf").write_text(LOGINS)
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(self.password)
            # Not as a file for initdb: that would stand readable for the account.
            self._run_to_its_end(
                *(programs / "postgres", "--single", "-D", data, "postgres"),
                pass_fds=descriptors,
                stdin=f"ALTER ROLE {SUPERUSER} PASSWORD '{self.password}'\n",
            )

    def _answers(self) -> bool:
        lines = (self._data / "postmaster.pid").read_text().splitlines()
        # Line 8 is the server's own word on its state.
        return len(lines) >= 8 and lines[7].strip() == "ready"
