"""Collections in Milvus: made when first written to, kept in memory, partitioned by tenant.

A filter is made of UUIDs alone: no value from outside can close the clause that names the tenant.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from pymilvus import AsyncMilvusClient, DataType
from pymilvus.exceptions import MilvusException

from meshwright_common.ids import parse_id
from meshwright_rag.adapters.store_calls import StoreCalls
from meshwright_rag.domain.errors import IndexUnavailable
from meshwright_rag.settings import VectorSettings

SEARCH_SECONDS: Final = 1.5
WRITE_SECONDS: Final = 10.0
CREATE_SECONDS: Final = 60.0
"""A new collection is made, indexed and loaded within this: some 3 s on an idle server."""

PARTITIONS: Final = 16
"""Tenants are hashed onto these. More of them cost memory each, fewer make one search read more."""

MOST_FOUND: Final = 16_384
"""Milvus returns no more from one search."""

VECTOR: Final = "embedding"
ID_LENGTH: Final = 36
_NOT_LOADED: Final = frozenset({100, 101})
"""Milvus' codes for a collection that is missing, or not in memory."""
_REFUSALS: Final = frozenset({*range(1100, 1200), *range(1700, 1800)})
"""Milvus' codes for parameters and fields it does not want. All others say that it cannot serve:
nodes, channels, replicas, limits."""
_REFUSED: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED})


@dataclass(frozen=True, slots=True)
class Shape:
    """What a new collection is made like: `fields` beside id, tenant and vector."""

    fields: Mapping[str, DataType]
    vector_length: int


@asynccontextmanager
async def open_collections(settings: VectorSettings) -> AsyncIterator["MilvusCollections"]:
    """Give the collections of a server; the connection is made when first used."""
    log = logging.getLogger("pymilvus")
    # It writes every error with its traceback past our log; the errors are ours to report.
    log.handlers.clear()
    log.setLevel(logging.CRITICAL)
    collections = MilvusCollections(settings)
    try:
        yield collections
    finally:
        await collections.close()


class MilvusCollections:
    """The calls to one server. Names of collections begin with those of the settings."""

    def __init__(self, settings: VectorSettings) -> None:
        self.settings = settings
        self._calls = StoreCalls(
            "vector", errors=(MilvusException, grpc.RpcError), is_refusal=_is_refusal
        )
        self._client: AsyncMilvusClient | None = None
        self._opening = asyncio.Lock()
        self._loaded: set[str] = set()

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()

    async def names(self, prefix: str) -> Sequence[str]:
        """Return the collections whose names begin with `prefix` and an underscore."""
        client = await self._connected()
        async with self._calls.within(WRITE_SECONDS):
            names = await client.list_collections(timeout=WRITE_SECONDS)
        return [name for name in names if name.startswith(f"{prefix}_")]

    async def loaded(self, name: str, *, create: Shape | None = None) -> AsyncMilvusClient:
        """Return the client once the collection is in memory, or made if a shape is given."""
        client = await self._connected()
        if name in self._loaded:
            return client
        if (
            not await self.has(name, seconds=CREATE_SECONDS if create else SEARCH_SECONDS)
            and create
        ):
            await self._create(client, name, create)
        async with self.asking(name, WRITE_SECONDS):
            await client.load_collection(name, timeout=WRITE_SECONDS)
        self._loaded.add(name)
        return client

    async def has(self, name: str, *, seconds: float = SEARCH_SECONDS) -> bool:
        """Return whether the collection was made."""
        if name in self._loaded:
            return True
        client = await self._connected()
        async with self._calls.within(seconds):
            return bool(await client.has_collection(name, timeout=SEARCH_SECONDS))

    @asynccontextmanager
    async def asking(self, name: str, seconds: float) -> AsyncIterator[None]:
        """Call Milvus about a collection; one that is found to be away is opened anew next time.

        Raises: IndexUnavailable; IndexRefused.
        """
        try:
            async with self._calls.within(seconds):
                yield
        except IndexUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, MilvusException) and cause.code in _NOT_LOADED:
                self._loaded.discard(name)
            raise

    async def count(self, name: str, wanted: str) -> int:
        """Return how many rows a filter finds, with all that was written before."""
        client = await self.loaded(name)
        async with self.asking(name, WRITE_SECONDS):
            answer = await client.query(
                name,
                filter=wanted,
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=WRITE_SECONDS,
            )
        return int(answer[0]["count(*)"])

    def search_params(self, limit: int) -> dict[str, object]:
        """Return how a search for so many neighbours is done."""
        by_index: dict[str, dict[str, int]] = {
            # Below 4 times the hits, neighbours are missed as soon as a filter thins them out.
            "hnsw": {"ef": min(max(limit * 4, 128), 32_768)},
            "ivf_flat": {"nprobe": 32},
            "flat": {},
        }
        return {"metric_type": "COSINE", "params": by_index[self.settings.index]}

    async def _connected(self) -> AsyncMilvusClient:
        if self._client is None:
            # The limit counts the wait for whoever is connecting already.
            async with self._calls.within(SEARCH_SECONDS), self._opening:
                if self._client is None:
                    client = AsyncMilvusClient(
                        self.settings.url,
                        token=self.settings.token,
                        timeout=SEARCH_SECONDS,
                        # Ours alone: a shared connection is closed by nobody.
                        dedicated=True,
                        server_pem_path=str(self.settings.ca_file or ""),
                    )
                    await client.get_server_version(timeout=SEARCH_SECONDS)
                    self._client = client
        return self._client

    async def _create(self, client: AsyncMilvusClient, name: str, shape: Shape) -> None:
        """Make the collection. Whoever else makes it at the same time makes the same one."""
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=ID_LENGTH)
        schema.add_field("tenant_id", DataType.VARCHAR, max_length=ID_LENGTH, is_partition_key=True)
        for field, kind in shape.fields.items():
            length = {"max_length": ID_LENGTH} if kind is DataType.VARCHAR else {}
            schema.add_field(field, kind, **length)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=shape.vector_length)
        indexes = client.prepare_index_params()
        indexes.add_index(VECTOR, metric_type="COSINE", **self._index_params())
        async with self._calls.within(CREATE_SECONDS):
            await client.create_collection(
                name,
                schema=schema,
                consistency_level="Bounded",
                num_partitions=PARTITIONS,
                timeout=CREATE_SECONDS,
            )
            try:
                await client.create_index(name, indexes, timeout=CREATE_SECONDS)
            except grpc.RpcError as error:
                # Milvus Lite takes the index and has no clock by which to wait for it.
                if _status(error) is not grpc.StatusCode.UNIMPLEMENTED:
                    raise

    def _index_params(self) -> dict[str, object]:
        by_index: dict[str, dict[str, object]] = {
            "hnsw": {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}},
            "ivf_flat": {"index_type": "IVF_FLAT", "params": {"nlist": 256}},
            "flat": {"index_type": "FLAT", "params": {}},
        }
        return by_index[self.settings.index]


def having(field: str, value: str) -> str:
    """Return the clause of a field that is this UUID. Raises: InvalidArgument for another value."""
    return f"{field} == {_quoted(field, value)}"


def among(field: str, values: Sequence[str]) -> str:
    """Return the clause of a field that is one of these UUIDs. Raises: InvalidArgument."""
    return f"{field} in [{', '.join(_quoted(field, value) for value in values)}]"


def _quoted(field: str, value: str) -> str:
    return f'"{parse_id(value, field)}"'


def _status(error: grpc.RpcError) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, grpc.RpcError):
        return _status(error) in _REFUSED
    return isinstance(error, MilvusException) and error.code in _REFUSALS
