"""The engines of compose.yaml for image_platform.py: real servers at the names and ports there.

They are the servers of the tests, on the loopback of a network namespace: there the usual ports
are free, so that the URLs of compose.yaml hold. PostgreSQL is the wheel's, of compose.yaml's
version and with pgvector. Redis stands for Valkey, moto for MinIO.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis

from meshwright_common.storage.embedded.postgres import EmbeddedPostgres
from meshwright_common.testing.servers.catalogue import SERVERS
from meshwright_common.testing.servers.together import running_together

PORTS: Final[Mapping[str, tuple[str, int]]] = {
    "redis": ("valkey", 6379),
    "kafka": ("kafka", 9092),
    "rabbitmq": ("rabbitmq", 5672),
    "consul": ("consul", 8500),
    "milvus": ("milvus", 19530),
    "elasticsearch": ("elasticsearch", 9200),
    "s3": ("minio", 9000),
}
"""By the servers' names: their names and ports in compose.yaml."""
OTHER_PORTS: Final = 21_000
"""Ports that only the servers themselves use: from here on."""
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {"core": ("redis",), "full": tuple(PORTS)}
NAMES: Final = ("postgres", *(name for name, _ in PORTS.values()))
OTHERWISE: Final[Mapping[str, str]] = {
    # The account of a new RabbitMQ; compose.yaml's image makes one of the platform.
    "MESHWRIGHT_DISPATCH__URL": "amqp://guest:guest@rabbitmq:5672/",
}
"""Variables of `.env` that these servers want otherwise, in the profile `full`."""


@contextmanager
def engines(profile: str, folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Run those of a profile with the passwords of `.env`. Raises: EngineFailed."""
    names = NEEDED[profile]
    for place, name in enumerate(names):
        first, *others = SERVERS[name].port_names
        ports = {other: OTHER_PORTS + 10 * place + at for at, other in enumerate(others)}
        (folder / name).mkdir(parents=True)
        (folder / name / "ports.json").write_text(json.dumps({first: PORTS[name][1], **ports}))
    postgres = EmbeddedPostgres(
        folder / "postgres", password=variables["POSTGRES_PASSWORD"], log=folder / "postgres.log"
    )
    postgres.start(port=5432)
    try:
        with running_together(folder, names):
            with redis.Redis(port=PORTS["redis"][1]) as client:
                client.config_set("requirepass", variables["VALKEY_PASSWORD"])
            yield
    finally:
        postgres.stop()
