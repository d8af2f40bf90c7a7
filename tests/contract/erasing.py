"""What the tests of erasure share: to ask for one, to follow it, to look for what is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from meshwright.erasure.v1 import store_erasure_service_pb2 as store_pb
from meshwright.erasure.v1.store_erasure_service_pb2_grpc import StoreErasureServiceStub
from meshwright.session.v1 import erasure_pb2, erasure_service_pb2
from meshwright.session.v1.erasure_service_pb2_grpc import ErasureServiceStub
from meshwright_cli.first_start import OPERATOR
from meshwright_common import context
from meshwright_common.context import MESH_INTERNAL
from meshwright_common.erasure.receipt import verifies
from meshwright_common.identity.keys import load_keys
from meshwright_common.identity.signing import PUBLIC_FILE, load_record_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.rpc.channels import Channels
from tests.platform_process import Platform
from tests.security.rows import superuser_url

PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1
SERVICES: Final = ("chat", "orchestrator", "tool-exec", "rag", "model-router", "session")


def erase_user(client: httpx.Client, user_id: str, **query: str) -> dict[str, Any]:
    """Ask for the erasure of a user and return what was begun."""
    answer = client.delete(f"/api/v1/users/{user_id}", params=query)
    assert answer.status_code == 202, answer.text
    begun: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/erasures/{begun['erasure_id']}"
    return begun


def followed(
    client: httpx.Client, erasure_id: str, *states: str, seconds: float = PATIENCE_SECONDS
) -> dict[str, Any]:
    """Return an erasure when it has one of the states. Raises: AssertionError after the time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = client.get(f"/api/v1/erasures/{erasure_id}")
        found: dict[str, Any] = answer.json()
        if found.get("state") in states:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(LOOK_SECONDS)


def is_signed(platform: Platform, receipt: Mapping[str, Any]) -> bool:
    """Return whether a receipt is signed by a key of the platform."""
    return verifies(receipt, load_record_keys(platform.data / "keys" / PUBLIC_FILE))


@contextmanager
def as_operator(platform: Platform, tenant_id: str, *permissions: str) -> Iterator[Channels]:
    """Give channels of the operator of a platform, who calls for a tenant."""
    ring = load_keys(platform.data / "keys", [OPERATOR])
    peers = {name: f"ipv4:{address}" for name, address in platform.grpc.items()}
    acting = context.service_context(
        OPERATOR, tenant_id, permissions or (MESH_INTERNAL,), timeout_seconds=30
    )
    with context.bind(acting):
        yield Channels(TokenMinter(OPERATOR, ring.private_key(OPERATOR)), peers)


def erasure_for_operator(
    platform: Platform, tenant_id: str, erasure_id: str
) -> erasure_pb2.Erasure:
    """Return an erasure of a tenant in which nobody is left to ask."""

    async def ask(channels: Channels) -> erasure_pb2.Erasure:
        async with channels:
            answer = await ErasureServiceStub(channels.open("session")).GetErasure(
                erasure_service_pb2.GetErasureRequest(erasure_id=erasure_id)
            )
        return answer.erasure

    with as_operator(platform, tenant_id, "tenant:admin") as channels:
        return asyncio.run(ask(channels))


def stores_of(platform: Platform, tenant_id: str, user_id: str) -> dict[str, list[str]]:
    """Return the names of the stores that each service says it has emptied of an unknown user."""

    async def ask(channels: Channels) -> dict[str, list[str]]:
        async with channels:
            return {
                name: [one.store for one in (await _erase(channels, name, user_id)).stores]
                for name in SERVICES
            }

    with as_operator(platform, tenant_id) as channels:
        return asyncio.run(ask(channels))


async def _erase(channels: Channels, name: Any, user_id: str) -> store_pb.EraseStoredResponse:
    stub = StoreErasureServiceStub(channels.open(name))
    answer: store_pb.EraseStoredResponse = await stub.EraseStored(
        store_pb.EraseStoredRequest(service=name, user_id=user_id)
    )
    return answer


def rows(platform: Platform, statement: str, *values: object) -> Sequence[asyncpg.Record]:
    """Return what a statement finds past row-level security."""

    async def fetch() -> Sequence[asyncpg.Record]:
        connection = await asyncpg.connect(superuser_url(platform))
        try:
            found: Sequence[asyncpg.Record] = await connection.fetch(statement, *values)
            return found
        finally:
            await connection.close()

    return asyncio.run(fetch())


def search_stores_with(platform: Platform, field: str, value: str) -> set[str]:
    """Return the stores of vectors and words outside the database that have it in a field."""
    environment = platform.environment
    found: set[str] = set()
    if url := environment.get("MESHWRIGHT_RAG__FULL_TEXT__URL"):
        index = environment["MESHWRIGHT_RAG__FULL_TEXT__INDEX"]
        httpx.post(f"{url}/{index}/_refresh").raise_for_status()
        query = {"query": {"term": {field: value}}}
        counted = httpx.post(f"{url}/{index}/_count", json=query).raise_for_status().json()
        found |= {"elasticsearch"} if counted["count"] else set()
    if url := environment.get("MESHWRIGHT_RAG__VECTORS__URL"):
        passages = environment["MESHWRIGHT_RAG__VECTORS__COLLECTION"]
        memories = environment.get("MESHWRIGHT_RAG__VECTORS__MEMORIES", "meshwright_memories")
        # Passages have no users, memories no documents.
        prefixes = {"document_id": [passages], "user_id": [memories]}
        for prefix in prefixes.get(field, [passages, memories]):
            found |= asyncio.run(_milvus_with(url, f"{prefix}_", f'{field} == "{value}"'))
    return found


async def _milvus_with(url: str, prefix: str, wanted: str) -> set[str]:
    # The driver takes a second to load: for those who have such a server.
    from pymilvus import AsyncMilvusClient  # noqa: PLC0415

    client = AsyncMilvusClient(uri=url, dedicated=True)
    try:
        found = set()
        for name in await client.list_collections():
            if not name.startswith(prefix):
                continue
            await client.load_collection(name)
            [counted] = await client.query(
                name, filter=wanted, output_fields=["count(*)"], consistency_level="Strong"
            )
            found |= {name} if counted["count(*)"] else set()
        return found
    finally:
        await client.close()


def objects_of(paths: set[Path], tenant_id: str) -> set[str]:
    """Return the objects of a tenant but those of its audit log."""
    prefix = f"tenants/{tenant_id}/"
    return {
        str(path) for path in paths if prefix in str(path) and f"{prefix}audit/" not in str(path)
    }
