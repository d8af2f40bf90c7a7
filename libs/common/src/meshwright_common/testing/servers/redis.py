"""Redis 7 from Debian: one server, and a cluster of three."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import redis
from redis.exceptions import RedisError

from meshwright_common.testing.servers.base import LOOPBACK, Server, installed

MEMORY_LIMIT: Final = "256mb"
SLOTS: Final = 16384
NODES: Final = ("one", "two", "three")
NODE_TIMEOUT_MILLISECONDS: Final = 15_000
"""A cluster counts a silent node as failed after this, and itself with it."""

SETTINGS: Final[Mapping[str, str]] = {
    "bind": LOOPBACK,
    "maxmemory": MEMORY_LIMIT,
    "maxmemory-policy": "noeviction",
    "appendonly": "yes",
    # Written at once, so that a killed server keeps it: "everysec" holds back while it syncs.
    "appendfsync": "no",
    "save": '""',
    "loglevel": "warning",
}


def _configure(folder: Path, settings: Mapping[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "redis.conf"
    text = {**SETTINGS, "dir": str(folder), **settings}
    file.write_text("".join(f"{name} {value}\n" for name, value in text.items()))
    return file


def _ask(port: int, *command: str) -> object:
    """Return a server's answer. Raises: OSError while it cannot give one."""
    with redis.Redis(port=port, decode_responses=True, socket_timeout=5.0) as client:
        try:
            answer: object = client.execute_command(*command)
        except RedisError as error:
            raise OSError(str(error)) from error
    return answer


class DebianRedis(Server):
    """A Redis server without a password. `url` is its address."""

    name = "redis"

    @property
    def url(self) -> str:
        """The URL of its database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_REDIS__URL": self.url}

    def _launch(self) -> None:
        file = _configure(self.folder / "data", {"port": str(self.port)})
        self._run(installed("redis") / "redis-server", file)

    def _answers(self) -> bool:
        return _ask(self.port, "PING") is True


class RedisCluster(Server):
    """Three masters that hold all slots between them. `url` names all three."""

    name = "redis-cluster"
    port_names = (*NODES, *(f"{node} bus" for node in NODES))

    @property
    def url(self) -> str:
        """The URL of the platform's settings."""
        return f"redis+cluster://{','.join(f'{LOOPBACK}:{port}' for port in self._clients)}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def variables(self) -> Mapping[str, str]:
        return {"MESHWRIGHT_REDIS__URL": self.url}

    @property
    def _clients(self) -> list[int]:
        return [self.ports[node] for node in NODES]

    def _launch(self) -> None:
        for node in NODES:
            settings = {
                "port": str(self.ports[node]),
                "cluster-enabled": "yes",
                "cluster-port": str(self.ports[f"{node} bus"]),
                "cluster-node-timeout": str(NODE_TIMEOUT_MILLISECONDS),
                "cluster-announce-ip": LOOPBACK,
            }
            file = _configure(self.folder / node, settings)
            self._run(installed("redis") / "redis-server", file)

    def _answers(self) -> bool:
        states = [str(_ask(port, "CLUSTER", "INFO")) for port in self._clients]
        if all("cluster_slots_assigned:0" in state for state in states):
            self._form()
        return all(
            "cluster_state:ok" in state and f"cluster_known_nodes:{len(NODES)}" in state
            for state in states
        )

    def _form(self) -> None:
        """Introduce the nodes to each other and share the slots out."""
        for index, port in enumerate(self._clients):
            # Different epochs spare the nodes a round of settling who is the elder.
            _ask(port, "CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
            first, end = (SLOTS * place // len(NODES) for place in (index, index + 1))
            _ask(port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))
        for node in NODES[1:]:
            other, bus = str(self.ports[node]), str(self.ports[f"{node} bus"])
            _ask(self.port, "CLUSTER", "MEET", LOOPBACK, other, bus)
