"""Prometheus, as Debian packages it, with a configuration of the test's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshwright_common.testing.servers.base import LOOPBACK, Server, installed
from meshwright_common.testing.servers.http import get_json

MEMORY_LIMIT: Final = "256MiB"


class PrometheusServer(Server):
    """A Prometheus that reads `configuration`. `url` is its address."""

    name = "prometheus"
    port_names = ("http",)

    def __init__(self, folder: Path, configuration: Path) -> None:
        super().__init__(folder)
        self._configuration = configuration

    @property
    def url(self) -> str:
        """The base URL of its HTTP interface."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {}

    def _launch(self) -> None:
        self._run(
            installed("prometheus"),
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--storage.tsdb.retention.time=1h",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
            environment={"GOMEMLIMIT": MEMORY_LIMIT},
        )

    def _answers(self) -> bool:
        answer = get_json(f"{self.url}/api/v1/status/runtimeinfo")
        return isinstance(answer, dict) and answer.get("status") == "success"
