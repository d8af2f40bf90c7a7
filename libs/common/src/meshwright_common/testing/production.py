"""The engines of production for tests: pytest fixtures, loaded for every test of the repository.

Each gives the address of a real server that all tests share, so a test keeps to topics, queues,
keys, buckets and databases under a random prefix of its own. `make test` starts the servers once
and names their file in MESHWRIGHT_TEST_ENGINES; without it each is started when it is first asked
for and lives as long as the pytest process. One that cannot be had fails its tests: none is left
out in silence. A test that stops or kills a server makes its own (`testing.servers`).

    @pytest.mark.asyncio
    async def test_an_event_arrives(kafka_server: str) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka_server)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from meshwright_common.testing.servers.catalogue import SERVERS
from meshwright_common.testing.servers.together import ENGINES_VARIABLE, read_places

AddressOf: TypeAlias = Callable[[str], str]


@pytest.fixture(scope="session")
def server_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AddressOf]:
    """Give the address of a server by its name in `catalogue.SERVERS`; start it if none is named.

    Raises: EngineFailed.
    """
    file = os.environ.get(ENGINES_VARIABLE)
    places = read_places(Path(file)) if file else {}
    known = {name: place.address for name, place in places.items()}
    with contextlib.ExitStack() as stack:

        def address_of(name: str) -> str:
            if name not in known:
                server = SERVERS[name](tmp_path_factory.mktemp(name))
                stack.callback(server.stop)
                server.start()
                known[name] = server.address
            return known[name]

        yield address_of


@pytest.fixture(scope="session")
def kafka_server(server_address: AddressOf) -> str:
    """Apache Kafka 4: "127.0.0.1:port" for `bootstrap_servers`. It makes no topic unasked."""
    return server_address("kafka")


@pytest.fixture(scope="session")
def rabbitmq_server(server_address: AddressOf) -> str:
    """RabbitMQ 3.10: the AMQP URL of its default virtual host."""
    return server_address("rabbitmq")


@pytest.fixture(scope="session")
def consul_server(server_address: AddressOf) -> str:
    """Consul: "http://127.0.0.1:port"."""
    return server_address("consul")


@pytest.fixture(scope="session")
def debian_redis(server_address: AddressOf) -> str:
    """Redis 7: the URL of its database 0, without a password."""
    return server_address("redis")


@pytest.fixture(scope="session")
def redis_cluster(server_address: AddressOf) -> str:
    """A cluster of three Redis masters: "redis+cluster://host:port,host:port,host:port"."""
    return server_address("redis-cluster")


@pytest.fixture(scope="session")
def debian_postgres(server_address: AddressOf) -> str:
    """PostgreSQL 15 with contrib: the superuser's URL. Give roles that you make its password."""
    return server_address("postgres")


@pytest.fixture(scope="session")
def elasticsearch_server(server_address: AddressOf) -> str:
    """Elasticsearch 8, plain HTTP: "http://127.0.0.1:port"."""
    return server_address("elasticsearch")


@pytest.fixture(scope="session")
def milvus_server(server_address: AddressOf) -> str:
    """Milvus 2.3 standalone: "http://127.0.0.1:port"."""
    return server_address("milvus")


@pytest.fixture(scope="session")
def milvus_lite_server(server_address: AddressOf) -> str:
    """The server of Milvus Lite 3: "http://127.0.0.1:port"."""
    return server_address("milvus-lite")


@pytest.fixture(scope="session")
def s3_server(server_address: AddressOf) -> str:
    """moto's S3: the endpoint, "http://127.0.0.1:port". It takes any credentials."""
    return server_address("s3")
