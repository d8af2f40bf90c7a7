"""The servers there are, and the file that says where shared ones listen."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshwright_common.testing.servers.base import Server
from meshwright_common.testing.servers.consul import ConsulServer
from meshwright_common.testing.servers.elasticsearch import ElasticsearchServer
from meshwright_common.testing.servers.kafka import KafkaServer
from meshwright_common.testing.servers.milvus import MilvusLiteServer, MilvusServer
from meshwright_common.testing.servers.postgres import DebianPostgres
from meshwright_common.testing.servers.rabbitmq import RabbitServer
from meshwright_common.testing.servers.redis import DebianRedis, RedisCluster
from meshwright_common.testing.servers.s3 import MotoServer

SERVERS: Final[Mapping[str, type[Server]]] = {
    server.name: server
    for server in (
        KafkaServer,
        RabbitServer,
        ConsulServer,
        DebianPostgres,
        DebianRedis,
        RedisCluster,
        ElasticsearchServer,
        MilvusServer,
        MilvusLiteServer,
        MotoServer,
    )
}
"""By name; this is also the order in which they are told."""


def read_addresses(file: Path) -> dict[str, str]:
    """Return the addresses by server's name. Raises: OSError, ValueError."""
    addresses: dict[str, str] = json.loads(file.read_text())["addresses"]
    return addresses


def write_addresses(file: Path, servers: Mapping[str, Server]) -> None:
    """Write where `servers` listen; the file is there whole or not at all."""
    content = {
        "addresses": {name: server.address for name, server in servers.items()},
        "variables": {name: dict(server.variables) for name, server in servers.items()},
        "pids": {name: server.pids for name, server in servers.items()},
    }
    building = file.with_suffix(".partial")
    building.write_text(f"{json.dumps(content, indent=2)}\n")
    building.chmod(0o600)
    os.replace(building, file)
