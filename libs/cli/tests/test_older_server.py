"""Every migration also runs on the oldest PostgreSQL that is served, as Debian packs it (15)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwright_cli.engines.schema import migrate_all, prepare_database
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import DATABASE, SERVICES_WITH_TABLES
from meshwright_common.storage.embedded import process
from meshwright_common.storage.postgres import open_database

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "of-this-test"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Run Debian's server; give its host and port."""
    if not (PROGRAMS / "postgres").exists():
        pytest.skip("Debian's postgresql-15 is not installed")
    data, log, port = tmp_path / "data", tmp_path / "log", process.free_port()
    account = process.unprivileged_account(data)
    process.prepare_folder(data, account)
    folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    entered = f"/proc/self/fd/{folder}"
    initdb = [str(PROGRAMS / "initdb"), "-D", entered, "-U", "postgres", "--no-sync"]
    initdb += ["--auth-local=trust", "--auth-host=trust", "-E", "UTF8", "--locale=C.UTF-8"]
    options = ["-D", entered, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", ""]
    try:
        made = process.launch(
            initdb, account=account, death_signal=signal.SIGKILL, log=log, pass_fds=[folder]
        )
        assert made.wait(20) == 0, process.log_tail(log)
        server = process.launch(
            [str(PROGRAMS / "postgres"), *options, "-c", "fsync=off"],
            account=account,
            death_signal=signal.SIGINT,
            log=log,
            pass_fds=[folder],
        )
        try:
            assert process.wait_until(
                lambda: "ready to accept" in process.log_tail(log), timeout_seconds=20
            )
            yield f"{process.LOOPBACK}:{port}"
        finally:
            process.stop(server, [(signal.SIGINT, 10.0)])
    finally:
        os.close(folder)


@pytest.mark.asyncio
async def test_all_migrations_run_and_every_service_finds_its_schema(address: str) -> None:
    settings = DatabaseSettings(
        url=f"postgresql://meshwright_{{service}}:{PASSWORD}@{address}/{DATABASE}"
    )
    superuser_url = f"postgresql://postgres@{address}/postgres"
    applied = await prepare_database(superuser_url, settings, password=PASSWORD)
    assert "events" in applied
    assert await migrate_all(settings) == {}
    for service in SERVICES_WITH_TABLES:
        async with open_database(settings, service) as database:
            await database.probe()
