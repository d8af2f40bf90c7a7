"""Elasticsearch 8: one node, plain HTTP, from the distribution for integration tests."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshwright_common.storage.embedded import process
from meshwright_common.storage.embedded.process import Account
from meshwright_common.testing.servers.base import LOOPBACK, Server, installed
from meshwright_common.testing.servers.http import get_json

JVM_OPTIONS: Final = """\
-Xms256m
-Xmx512m
-XX:MaxDirectMemorySize=128m
-XX:+UseSerialGC
-XX:+ExitOnOutOfMemoryError
-Djava.io.tmpdir=${ES_TMPDIR}
"""
CONFIGURATION: Final = """\
discovery.type: single-node
network.host: {address}
http.port: {http}
transport.port: {transport}
path.data: {folder}/data
path.logs: {folder}/log
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""
LOGGING: Final = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1.}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class ElasticsearchServer(Server):
    """An Elasticsearch node. `url` is its address."""

    name = "elasticsearch"
    port_names = ("http", "transport")
    start_timeout_seconds = 300.0
    stop_ladder = ((signal.SIGTERM, 30.0),)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._reachable: Path | None = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_RAG__FULL_TEXT__URL": self.url}

    def _account(self) -> Account | None:
        return process.unprivileged_account(self._home)

    @property
    def _home(self) -> Path:
        """Where its files are: below `folder` if the account that it drops to can get there."""
        return self._reachable or self.folder / "node"

    def _launch(self) -> None:
        program = installed("elasticsearch") / "bin" / "elasticsearch"
        # The account passes here on the way to its own folder, if it gets this far.
        self.folder.chmod(0o711)
        account = self._account()
        process.prepare_folder(self._home, account)
        if not process.reachable(self._home, account):
            self._reachable = Path(tempfile.mkdtemp(prefix="meshwright-elasticsearch-"))
            # A TemporaryDirectory would warn that nobody cleaned it up.
            weakref.finalize(self, shutil.rmtree, self._reachable, ignore_errors=True)
        for folder in (self._home, *(self._home / name for name in ("config", "temporary", "log"))):
            process.prepare_folder(folder, account)
        self._write_configuration()
        environment = {
            "ES_JAVA_HOME": str(Path(str(shutil.which("java"))).resolve().parents[1]),
            "ES_PATH_CONF": str(self._home / "config"),
            "ES_TMPDIR": str(self._home / "temporary"),
        }
        # The launcher of the node; the node ends when it loses its launcher.
        self._run(program, environment=environment)

    def _write_configuration(self) -> None:
        configuration = CONFIGURATION.format(
            address=LOOPBACK,
            http=self.ports["http"],
            transport=self.ports["transport"],
            folder=self._home,
        )
        files = {
            "elasticsearch.yml": configuration,
            "jvm.options": JVM_OPTIONS,
            "log4j2.properties": LOGGING,
        }
        for name, text in files.items():
            file = self._home / "config" / name
            file.write_text(text)
            if (account := self._account()) is not None:
                os.chown(file, account.uid, account.gid)

    def _answers(self) -> bool:
        health = get_json(f"{self.url}/_cluster/health")
        return health is not None and health["status"] in {"green", "yellow"}
