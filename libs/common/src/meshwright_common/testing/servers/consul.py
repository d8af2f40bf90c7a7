"""Consul: one server that is its own cluster, with the HTTP interface alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from meshwright_common.testing.servers.base import LOOPBACK, Server, installed
from meshwright_common.testing.servers.http import get_json

MEMORY_LIMIT: Final = "192MiB"


class ConsulServer(Server):
    """A Consul server that keeps its catalogue. `url` is its address."""

    name = "consul"
    port_names = ("http", "server", "gossip")

    @property
    def url(self) -> str:
        """The base URL of the HTTP interface."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_REGISTRY__URL": f"consul://{LOOPBACK}:{self.port}"}

    def _launch(self) -> None:
        configuration = self.folder / "consul.json"
        configuration.write_text(json.dumps(self._configuration()))
        self._run(
            installed("consul"),
            "agent",
            f"-config-file={configuration}",
            environment={"GOMEMLIMIT": MEMORY_LIMIT},
        )

    def _configuration(self) -> dict[str, object]:
        closed = dict.fromkeys(("dns", "https", "grpc", "grpc_tls", "serf_wan"), -1)
        return {
            "node_name": "tests",
            "server": True,
            "bootstrap": True,
            "data_dir": str(self.folder / "data"),
            "bind_addr": LOOPBACK,
            "client_addr": LOOPBACK,
            "ports": {
                **closed,
                "http": self.port,
                "server": self.ports["server"],
                "serf_lan": self.ports["gossip"],
            },
            "connect": {"enabled": False},
            # All tests of a machine are one client to it.
            "limits": {"http_max_conns_per_client": 2000},
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "warn",
        }

    def _answers(self) -> bool:
        # A leader alone is not enough: services of a node without its own health are not listed.
        checks = get_json(f"{self.url}/v1/health/node/tests")
        return isinstance(checks, list) and any(
            check["CheckID"] == "serfHealth" and check["Status"] == "passing" for check in checks
        )
