"""The servers there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
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
