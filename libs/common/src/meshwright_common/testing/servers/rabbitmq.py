"""RabbitMQ from Debian: one node, with an epmd of its own, no plugins."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshwright_common.testing.servers.base import LOOPBACK, Server, installed

NODE: Final = "rabbit@localhost"
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
CONFIGURATION: Final = """\
listeners.tcp.default = {address}:{port}
loopback_users = none
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 400MB
disk_free_limit.absolute = 50MB
"""
EMULATOR: Final = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none +A 8 +P 262144 +stbt u"
"""One scheduler that does not spin, and a table of processes that fits one node of tests."""


class RabbitServer(Server):
    """A RabbitMQ node with the account guest:guest. `url` is its address."""

    name = "rabbitmq"
    port_names = ("client", "distribution", "epmd")
    # Its handler of SIGTERM closes queues and the node in order.
    stop_ladder = ((signal.SIGTERM, 30.0),)

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_DISPATCH__URL": self.url}

    def _launch(self) -> None:
        scripts = installed("rabbitmq")
        self._write_configuration()
        epmd = shutil.which("epmd", path="/usr/bin:/usr/lib/erlang/bin")
        # In the foreground: the node would leave one behind that nobody ends.
        self._run(
            str(epmd),
            "-port",
            str(self.ports["epmd"]),
            "-address",
            LOOPBACK,
            "-relaxed_command_check",
        )
        # "Allow input" makes the script become the node instead of its parent.
        self._run(scripts / "rabbitmq-server", "-noinput", environment=self._environment())

    def _write_configuration(self) -> None:
        text = CONFIGURATION.format(address=LOOPBACK, port=self.port)
        (self.folder / "rabbitmq.conf").write_text(text)
        (self.folder / "enabled_plugins").write_text("[].\n")
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(16))

    def _environment(self) -> dict[str, str]:
        distribution = str(self.ports["distribution"])
        interface = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": distribution,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "config"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ERL_ARGS": EMULATOR,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": interface,
        }

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _answers(self) -> bool:
        # The node listens when all else is up, and begins with Connection.Start (class 10, 10).
        with socket.create_connection((LOOPBACK, self.port), timeout=5.0) as connection:
            connection.sendall(PROTOCOL_HEADER)
            return connection.recv(11)[7:11] == b"\x00\x0a\x00\x0a"
