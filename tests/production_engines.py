"""The settings of a platform with no embedded engine, below names of its own on shared servers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import httpx

from meshwright_common.testing.encryption import encryption_environment
from tests.platform_process import run_command


def production_environment(address_of: Callable[[str], str]) -> Mapping[str, str]:
    """Return the variables of a platform with nothing embedded; its database and bucket are made.

    `address_of` gives the address of a server by its name, see `testing.production`.
    """
    name = f"mw{secrets.token_hex(4)}"
    postgres = urlsplit(address_of("postgres"))
    login = f"meshwright_{{service}}:{postgres.password}@{postgres.hostname}:{postgres.port}"
    s3 = address_of("s3")
    httpx.put(f"{s3}/{name}").raise_for_status()
    variables = {
        "MESHWRIGHT_DATABASE__URL": f"postgresql://{login}/{name}",
        "MESHWRIGHT_REDIS__URL": address_of("redis-cluster"),
        "MESHWRIGHT_EVENTS__URL": f"kafka://{address_of('kafka')}",
        "MESHWRIGHT_EVENTS__TOPIC_PREFIX": f"{name}.",
        "MESHWRIGHT_EVENTS__PARTITIONS": "3",
        "MESHWRIGHT_DISPATCH__URL": address_of("rabbitmq"),
        "MESHWRIGHT_DISPATCH__PREFIX": f"{name}.",
        "MESHWRIGHT_REGISTRY__URL": address_of("consul").replace("http://", "consul://"),
        "MESHWRIGHT_REGISTRY__PREFIX": f"{name}-",
        "MESHWRIGHT_OBJECTS__URL": f"s3://test:test@{name}",
        "MESHWRIGHT_OBJECTS__ENDPOINT": s3,
        "MESHWRIGHT_RAG__VECTORS__URL": address_of("milvus"),
        "MESHWRIGHT_RAG__VECTORS__COLLECTION": name,
        "MESHWRIGHT_RAG__FULL_TEXT__URL": address_of("elasticsearch"),
        "MESHWRIGHT_RAG__FULL_TEXT__INDEX": name,
        **encryption_environment(),
    }
    done = run_command("migrate", "--bootstrap", postgres.geturl(), environment=variables)
    assert done.returncode == 0, done.stderr
    return variables
