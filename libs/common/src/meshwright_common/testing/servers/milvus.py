"""Milvus 2.3 standalone from its wheel, and the server of Milvus Lite 3."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc

from meshwright_common.testing.servers import namespace
from meshwright_common.testing.servers.base import LOOPBACK, Server, installed

CHECK_HEALTH: Final = "/milvus.proto.milvus.MilvusService/CheckHealth"
HEALTHY: Final = b"\x10\x01"
"""`isHealthy = true` (field 2) in an answer without a word of reason."""
ANSWER_SECONDS: Final = 5.0
PROXY_PORT: Final = 19530
METRICS_PORT: Final = 9091
PLACEHOLDER: Final = re.compile(r"\{\{\s*(\w+)(?:\(\w+\))?\s*(?::\s*([^}]*?))?\s*\}\}")
CHANGES: Final[Mapping[str, str]] = {
    "\nlog:\n  level: info": "warn",
    # After a kill, its parts are let in again when their former sessions are over.
    "\n  session:\n    ttl: 30": "10",
}
"""Settings that the wheel's template holds no place for: as they stand there, and our values."""
MEMORY_LIMIT: Final = "512MiB"


def _is_healthy(port: int) -> bool:
    with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK_HEALTH)
        try:
            return HEALTHY in ask(b"", timeout=ANSWER_SECONDS)
        except grpc.RpcError:
            return False


class MilvusServer(Server):
    """A whole Milvus. `url` is its address.

    It binds fixed ports on all interfaces and its settings know no other way. So it runs in a
    network namespace of its own, in which only the loopback is, and one port of ours leads there:
    any number of them can run, and nobody else can reach them. That needs root or unprivileged
    user namespaces.
    """

    name = "milvus"
    start_timeout_seconds = 300.0
    # SIGTERM takes it 12 s, and then it panics: its log of changes is made for SIGKILL.
    stop_ladder = ()

    @property
    def url(self) -> str:
        """The URL for `MilvusClient`."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_RAG__VECTORS__URL": self.url}

    def _launch(self) -> None:
        home = installed("milvus")
        run = self.folder / "run"
        self._write_configuration(home)
        environment = {
            "DEPLOY_MODE": "STANDALONE",
            "GOMEMLIMIT": MEMORY_LIMIT,
            "LD_LIBRARY_PATH": str(home / "bin"),
            "METRICS_PORT": str(METRICS_PORT),
            "MILVUS_RUN_DIR": str(run),
        }
        script = (sys.executable, "-I", "-S", namespace.__file__)
        ports = (str(self.port), str(PROXY_PORT))
        program = (home / "bin" / "milvus", "run", "standalone")
        self._run(*script, *ports, *program, environment=environment)

    def _write_configuration(self, home: Path) -> None:
        values = {
            "etcd_data_dir": str(self.folder / "etcd"),
            "etcd_log_level": "error",
            "etcd_log_path": str(self.folder / "etcd.log"),
            "local_storage_dir": str(self.folder / "data"),
            "rocksmq_data_dir": str(self.folder / "rocksmq"),
            "system_log_path": "",
        }
        template = (home / "config.yaml.template").read_text()
        text = PLACEHOLDER.sub(lambda place: values.get(place[1], place[2] or ""), template)
        # After a kill, its parts are let in again when their former sessions are over.
        for setting, value in (
            ("  session:\n    ttl: 30", "10"),
            ("\nlog:\n  level: info", "warn"),
        ):
            text = text.replace(setting, f"{setting.rpartition(' ')[0]} {value}")
        configuration = self.folder / "configs"
        (self.folder / "logs").mkdir(exist_ok=True)
        configuration.mkdir(exist_ok=True)
        (configuration / "milvus.yaml").write_text(text)
        shutil.copy(home / "glog.conf", configuration)

    def _answers(self) -> bool:
        return _is_healthy(self.port)


class MilvusLiteServer(Server):
    """The server of Milvus Lite. `url` is its address."""

    name = "milvus-lite"
    stop_ladder = ((signal.SIGTERM, 5.0),)

    @property
    def url(self) -> str:
        """The URL for `MilvusClient`."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_RAG__VECTORS__URL": self.url}

    def _launch(self) -> None:
        data = self.folder / "data"
        where = ("--host", LOOPBACK, "--port", str(self.port))
        self._run(installed("milvus-lite"), "server", "--data-dir", data, *where)

    def _answers(self) -> bool:
        return _is_healthy(self.port)
