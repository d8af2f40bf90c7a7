"""Vectors in Milvus: a collection per length of vectors, partitioned by tenant.

Milvus has no transactions, so it is written before the database notes what it holds, and only
passages that the database says answer leave a search. A filter is made of UUIDs alone: no value
from outside can close the clause that names the tenant.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import grpc
from pymilvus import AsyncMilvusClient, DataType
from pymilvus.exceptions import MilvusException

from meshwright_common.ids import parse_id
from meshwright_rag.adapters.live_documents import LiveDocuments
from meshwright_rag.adapters.store_calls import StoreCalls
from meshwright_rag.domain.errors import IndexUnavailable
from meshwright_rag.domain.models import IndexTask, NewPassage, PassageRef, SearchScope
from meshwright_rag.domain.ports import Vector
from meshwright_rag.settings import VectorSettings

SEARCH_SECONDS: Final = 1.5
WRITE_SECONDS: Final = 10.0
CREATE_SECONDS: Final = 60.0
"""A new collection is made, indexed and loaded within this: some 3 s on an idle server."""

PARTITIONS: Final = 16
"""Tenants are hashed onto these. More of them cost memory each, fewer make one search read more."""

MOST_FOUND: Final = 16_384
"""Milvus returns no more from one search."""

_VECTOR: Final = "embedding"
_NOT_LOADED: Final = frozenset({100, 101})
"""Milvus' codes for a collection that is missing, or not in memory."""
_REFUSALS: Final = frozenset({*range(1100, 1200), *range(1700, 1800)})
"""Milvus' codes for parameters and fields it does not want. All others say that it cannot serve:
nodes, channels, replicas, limits."""
_REFUSED: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED})


@asynccontextmanager
async def open_milvus(
    settings: VectorSettings, documents: LiveDocuments
) -> AsyncIterator["MilvusIndex"]:
    """Open the index; it connects when first used."""
    log = logging.getLogger("pymilvus")
    # It writes every error with its traceback past our log; the errors are ours to report.
    log.handlers.clear()
    log.setLevel(logging.CRITICAL)
    index = MilvusIndex(settings, documents)
    try:
        yield index
    finally:
        await index.close()


class MilvusIndex:
    """Implements `VectorIndex` and `PassageIndex`. `documents` says which generations answer."""

    def __init__(self, settings: VectorSettings, documents: LiveDocuments) -> None:
        self._settings = settings
        self._documents = documents
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

    async def search(
        self, scope: SearchScope, vector: Vector, *, most: int
    ) -> Sequence[PassageRef]:
        tenant = _tenant(scope.tenant_id)

        async def find(field: str, values: Sequence[str], count: int) -> Sequence[PassageRef]:
            return await self._near(f"{tenant} and {_among(field, values)}", vector, count)

        return await self._documents.search(scope, find, most=most, found_at_most=MOST_FOUND)

    async def put(
        self,
        tenant_id: str,
        task: IndexTask,
        passages: Sequence[NewPassage],
        vectors: Sequence[Vector],
    ) -> None:
        name = self._name(len(vectors[0]))
        refs = [task.ref(passage) for passage in passages]
        rows = [
            {
                "id": ref.chunk_id,
                "tenant_id": tenant_id,
                "knowledge_base_id": task.knowledge_base_id,
                "document_id": ref.document_id,
                "generation": ref.generation,
                "ordinal": ref.ordinal,
                _VECTOR: list(vector),
            }
            for ref, vector in zip(refs, vectors, strict=True)
        ]
        client = await self._loading(name, create_length=len(vectors[0]))
        async with self._in(name, WRITE_SECONDS):
            # Not `upsert`: Milvus 2.3 loses rows by it where a collection has a partition key, and
            # an insert by itself would leave two of a row. By the key alone: for any other clause
            # Milvus looks for the rows first, which takes 0.2 s. The keys are of this generation.
            same = _among("id", [ref.chunk_id for ref in refs])
            await client.delete(name, filter=same, timeout=WRITE_SECONDS)
            await client.insert(name, rows, timeout=WRITE_SECONDS)

    async def count(self, tenant_id: str, task: IndexTask) -> int:
        wanted = f"{_tenant(tenant_id)} and {_is('generation', task.generation)}"
        return sum([await self._count(name, wanted) for name in await self._collections()])

    async def discard(
        self, tenant_id: str, document_id: str, *, only: str = "", but: str = ""
    ) -> None:
        unwanted = f"{_tenant(tenant_id)} and {_is('document_id', document_id)}"
        if only:
            unwanted += f" and {_is('generation', only)}"
        if but:
            unwanted += f" and not ({_is('generation', but)})"
        for name in await self._collections():
            if not await self._count(name, unwanted):
                continue
            client = await self._loading(name)
            async with self._in(name, WRITE_SECONDS):
                await client.delete(name, filter=unwanted, timeout=WRITE_SECONDS)
            if left := await self._count(name, unwanted):
                raise IndexUnavailable(index="vector", cause=f"{left} passages are not removed yet")

    async def _near(self, wanted: str, vector: Vector, limit: int) -> list[PassageRef]:
        name = self._name(len(vector))
        client = await self._loading(name)
        async with self._in(name, SEARCH_SECONDS):
            (hits,) = await client.search(
                name,
                data=[list(vector)],
                anns_field=_VECTOR,
                filter=wanted,
                limit=limit,
                output_fields=["document_id", "generation", "ordinal"],
                search_params=self._search_params(limit),
                # What was counted when a document became ready is seen by this, too.
                consistency_level="Bounded",
                timeout=SEARCH_SECONDS,
            )
        found = [(-hit["distance"], hit["entity"]) for hit in hits]
        found.sort(key=lambda one: (one[0], one[1]["document_id"], one[1]["ordinal"]))
        return [
            PassageRef(entity["document_id"], entity["generation"], int(entity["ordinal"]))
            for _, entity in found
        ]

    async def _count(self, name: str, wanted: str) -> int:
        client = await self._loading(name)
        async with self._in(name, WRITE_SECONDS):
            # Strong: everything written before this call is counted, and can be found from now on.
            answer = await client.query(
                name,
                filter=wanted,
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=WRITE_SECONDS,
            )
        return int(answer[0]["count(*)"])

    @asynccontextmanager
    async def _in(self, name: str, seconds: float) -> AsyncIterator[None]:
        """Call Milvus about a collection; one that is found to be away is opened anew next time."""
        try:
            async with self._calls.within(seconds):
                yield
        except IndexUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, MilvusException) and cause.code in _NOT_LOADED:
                self._loaded.discard(name)
            raise

    async def _connected(self) -> AsyncMilvusClient:
        if self._client is None:
            # The limit counts the wait for whoever is connecting already.
            async with self._calls.within(SEARCH_SECONDS), self._opening:
                if self._client is None:
                    client = AsyncMilvusClient(
                        self._settings.url,
                        token=self._settings.token,
                        timeout=SEARCH_SECONDS,
                        # Ours alone: a shared connection is closed by nobody.
                        dedicated=True,
                        server_pem_path=str(self._settings.ca_file or ""),
                    )
                    await client.get_server_version(timeout=SEARCH_SECONDS)
                    self._client = client
        return self._client

    async def _collections(self) -> Sequence[str]:
        """Return our collections: one for each length of vectors."""
        client = await self._connected()
        async with self._calls.within(WRITE_SECONDS):
            names = await client.list_collections(timeout=WRITE_SECONDS)
        prefix = f"{self._settings.collection}_"
        return [
            name
            for name in names
            if name.startswith(prefix) and name.removeprefix(prefix).isdecimal()
        ]

    async def _loading(self, name: str, *, create_length: int = 0) -> AsyncMilvusClient:
        """Return the client once the collection is in memory, or made if a length is given."""
        client = await self._connected()
        if name in self._loaded:
            return client
        async with self._calls.within(CREATE_SECONDS if create_length else SEARCH_SECONDS):
            there = await client.has_collection(name, timeout=SEARCH_SECONDS)
        if not there and create_length:
            await self._create(client, name, create_length)
        async with self._in(name, WRITE_SECONDS):
            await client.load_collection(name, timeout=WRITE_SECONDS)
        self._loaded.add(name)
        return client

    async def _create(self, client: AsyncMilvusClient, name: str, length: int) -> None:
        """Make the collection. Whoever else makes it at the same time makes the same one."""
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
        schema.add_field("tenant_id", DataType.VARCHAR, max_length=36, is_partition_key=True)
        for field in ("knowledge_base_id", "document_id", "generation"):
            schema.add_field(field, DataType.VARCHAR, max_length=36)
        schema.add_field("ordinal", DataType.INT64)
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=length)
        indexes = client.prepare_index_params()
        indexes.add_index(_VECTOR, metric_type="COSINE", **self._index_params())
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
        return by_index[self._settings.index]

    def _search_params(self, limit: int) -> dict[str, object]:
        by_index: dict[str, dict[str, int]] = {
            # Below 4 times the hits, neighbours are missed as soon as a filter thins them out.
            "hnsw": {"ef": min(max(limit * 4, 128), 32_768)},
            "ivf_flat": {"nprobe": 32},
            "flat": {},
        }
        return {"metric_type": "COSINE", "params": by_index[self._settings.index]}

    def _name(self, length: int) -> str:
        return f"{self._settings.collection}_{length}"


def _tenant(tenant_id: str) -> str:
    return _is("tenant_id", tenant_id)


def _is(field: str, value: str) -> str:
    return f"{field} == {_quoted(field, value)}"


def _among(field: str, values: Sequence[str]) -> str:
    return f"{field} in [{', '.join(_quoted(field, value) for value in values)}]"


def _quoted(field: str, value: str) -> str:
    """Return a UUID as a literal. Raises: InvalidArgument for anything else."""
    return f'"{parse_id(value, field)}"'


def _status(error: grpc.RpcError) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, grpc.RpcError):
        return _status(error) in _REFUSED
    return isinstance(error, MilvusException) and error.code in _REFUSALS
