"""Full text in Elasticsearch: the terms that the service cuts, BM25, one index, routed by tenant.

The terms are cut as for PostgreSQL and only separated by blanks here, so no plugin for Chinese is
needed. The query is built from terms and UUIDs: nothing of it is syntax. The clause that names
the tenant is the outermost, and the routing keeps a search to the shard of the tenant.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from elastic_transport import TransportError
from elasticsearch import ApiError, AsyncElasticsearch

from meshwright_common.ids import parse_id
from meshwright_common.text.terms import prepare
from meshwright_rag.adapters.jieba_terms import query_terms, written
from meshwright_rag.adapters.live_documents import LiveDocuments
from meshwright_rag.adapters.store_calls import StoreCalls
from meshwright_rag.domain.errors import IndexRefused, IndexUnavailable
from meshwright_rag.domain.models import IndexTask, NewPassage, PassageRef, SearchScope
from meshwright_rag.domain.ports import Vector
from meshwright_rag.settings import FullTextSettings

SEARCH_SECONDS: Final = 1.5
WRITE_SECONDS: Final = 10.0
MAX_BULK_BYTES: Final = 5 * 1024 * 1024
BULK_ATTEMPTS: Final = 4
"""For items that the server is too busy for; the others of a request are not sent again."""

MOST_FOUND: Final = 10_000
"""Elasticsearch returns no more from one search (`index.max_result_window`)."""

MAX_QUERY_TERMS: Final = 32
SHARDS: Final = 3
_DISCARDED_AT_ONCE: Final = 1000
_BUSY: Final = frozenset({429, 503})

_REF_FIELDS: Final = [{"field": name} for name in ("document_id", "generation", "ordinal")]
_KEYWORD: Final = {"type": "keyword"}
_TERMS: Final = {"type": "text", "analyzer": "whitespace"}
_INDEX: Final[Mapping[str, Any]] = {
    "settings": {
        "number_of_shards": SHARDS,
        # As many copies as there are nodes to hold them, up to one more.
        "auto_expand_replicas": "0-1",
        # Passages are of about one length: it says less than usual.
        "similarity": {"default": {"type": "BM25", "b": 0.25}},
    },
    "mappings": {
        "dynamic": False,
        "_routing": {"required": True},
        "properties": {
            "tenant_id": _KEYWORD,
            "knowledge_base_id": _KEYWORD,
            "document_id": _KEYWORD,
            "generation": _KEYWORD,
            "ordinal": {"type": "integer"},
            "text": _TERMS,
            "headings": _TERMS,
        },
    },
}


@asynccontextmanager
async def open_elasticsearch(
    settings: FullTextSettings, documents: LiveDocuments
) -> AsyncIterator["ElasticsearchIndex"]:
    """Open the index; it connects when first used."""
    tls: dict[str, Any] = {"ca_certs": str(settings.ca_file)} if settings.ca_file else {}
    client = AsyncElasticsearch(
        settings.url,
        api_key=settings.api_key or None,
        # Repeating is ours: by item for writes, and not at all for searches.
        max_retries=0,
        retry_on_timeout=False,
        **tls,
    )
    async with client:
        yield ElasticsearchIndex(client, settings.index, documents)


class ElasticsearchIndex:
    """Implements `FullTextIndex` and `PassageIndex`. `documents` says which generations answer."""

    store = "elasticsearch:passages"

    def __init__(self, client: AsyncElasticsearch, name: str, documents: LiveDocuments) -> None:
        self._client = client
        self._name = name
        self._documents = documents
        self._calls = StoreCalls("text", errors=(ApiError, TransportError), is_refusal=_is_refusal)
        self._is_made = False

    async def search(self, scope: SearchScope, query: str, *, most: int) -> Sequence[PassageRef]:
        await prepare(query)
        asked = query_terms(query)
        words = asked.single[:MAX_QUERY_TERMS]
        if not words:
            return []
        scored = _scored(words, asked.pairs[:MAX_QUERY_TERMS])

        async def find(field: str, values: Sequence[str], count: int) -> Sequence[PassageRef]:
            return await self._find(scope.tenant_id, [_among(field, values)], count, scored)

        return await self._documents.search(scope, find, most=most, found_at_most=MOST_FOUND)

    async def put(
        self,
        tenant_id: str,
        task: IndexTask,
        passages: Sequence[NewPassage],
        vectors: Sequence[Vector],
    ) -> None:
        await self._make()
        items: list[_Item] = []
        for passage in passages:
            text, headings = written(passage.terms)
            ref = task.ref(passage)
            source = {
                "tenant_id": tenant_id,
                "knowledge_base_id": task.knowledge_base_id,
                "document_id": ref.document_id,
                "generation": ref.generation,
                "ordinal": ref.ordinal,
                "text": " ".join(text),
                "headings": " ".join(headings),
            }
            items.append(({"index": {"_id": ref.chunk_id}}, source))
        await self._bulk(tenant_id, items)

    async def count(self, tenant_id: str, task: IndexTask) -> int:
        await self._make()
        return await self._count(tenant_id, [_is("generation", task.generation)])

    async def _count(self, tenant_id: str, wanted: Sequence[Mapping[str, Any]]) -> int:
        async with self._calls.within(WRITE_SECONDS):
            # What is counted can be found from now on.
            await self._client.indices.refresh(index=self._name)
            answer = await self._client.count(
                index=self._name,
                routing=_uuid("tenant_id", tenant_id),
                query=_confined(tenant_id, wanted),
            )
        return int(answer["count"])

    async def discard(
        self, tenant_id: str, document_id: str, *, only: str = "", but: str = ""
    ) -> int:
        await self._make()
        wanted = [_is("document_id", document_id)]
        if only:
            wanted.append(_is("generation", only))
        if but:
            wanted.append({"bool": {"must_not": [_is("generation", but)]}})
        return await self._remove(tenant_id, wanted)

    async def discard_tenant(self, tenant_id: str) -> int:
        """Remove every passage of the tenant; return how many."""
        await self._make()
        return await self._remove(tenant_id, [])

    async def count_tenant(self, tenant_id: str) -> int:
        """Return how many passages the tenant has, with all that was written before."""
        await self._make()
        return await self._count(tenant_id, [])

    async def _remove(self, tenant_id: str, wanted: Sequence[Mapping[str, Any]]) -> int:
        removed = 0
        while True:
            async with self._calls.within(WRITE_SECONDS):
                await self._client.indices.refresh(index=self._name)
            found = await self._find(tenant_id, wanted, _DISCARDED_AT_ONCE)
            if not found:
                return removed
            await self._bulk(
                tenant_id, [({"delete": {"_id": ref.chunk_id}}, None) for ref in found]
            )
            removed += len(found)

    async def _find(
        self,
        tenant_id: str,
        wanted: Sequence[Mapping[str, Any]],
        limit: int,
        scored: Mapping[str, Any] | None = None,
    ) -> list[PassageRef]:
        async with self._calls.within(SEARCH_SECONDS):
            answer = await self._client.search(
                index=self._name,
                routing=_uuid("tenant_id", tenant_id),
                query=_confined(tenant_id, wanted, scored),
                size=limit,
                sort=[{"_score": "desc"}, {"document_id": "asc"}, {"ordinal": "asc"}],
                source=False,
                docvalue_fields=_REF_FIELDS,
                track_total_hits=False,
                allow_partial_search_results=False,
            )
        return [
            PassageRef(
                hit["fields"]["document_id"][0],
                hit["fields"]["generation"][0],
                int(hit["fields"]["ordinal"][0]),
            )
            for hit in answer["hits"]["hits"]
        ]

    async def _bulk(self, tenant_id: str, items: Sequence["_Item"]) -> None:
        """Do all of it, in requests of bounded size; what the server is too busy for, again."""
        waiting = list(items)
        for attempt in range(BULK_ATTEMPTS):
            busy: list[_Item] = []
            for part in _parts(waiting):
                busy += await self._sent(tenant_id, part)
            if not busy:
                return
            waiting = busy
            await asyncio.sleep(0.1 * 2**attempt)
        raise IndexUnavailable(index="text", cause=f"too busy for {len(waiting)} writes")

    async def _sent(self, tenant_id: str, part: Sequence["_Item"]) -> list["_Item"]:
        """Send one request and return the items that are worth another attempt."""
        lines = [line for item in part for line in item if line is not None]
        async with self._calls.within(WRITE_SECONDS):
            answer = await self._client.bulk(
                index=self._name,
                routing=_uuid("tenant_id", tenant_id),
                operations=lines,
                # Otherwise an index that was removed would come back by itself, without mapping.
                require_alias=True,
            )
        busy = []
        for item, outcome in zip(part, answer["items"], strict=True):
            (result,) = outcome.values()
            if result["status"] in _BUSY:
                busy.append(item)
            elif "error" in result:
                cause = str(result["error"]["type"])
                if result["status"] == 400:
                    raise IndexRefused(index="text", cause=cause)
                # The index is gone, or takes no writes.
                self._is_made = False
                raise IndexUnavailable(index="text", cause=cause)
        return busy

    async def _make(self) -> None:
        """Make the index, under another name that an alias hides, unless it is there."""
        if self._is_made:
            return
        async with self._calls.within(WRITE_SECONDS):
            if not await self._client.indices.exists_alias(name=self._name):
                try:
                    await self._client.indices.create(
                        index=f"{self._name}-1", aliases={self._name: {}}, **_INDEX
                    )
                except ApiError as error:
                    if error.error != "resource_already_exists_exception":
                        raise
        self._is_made = True


_Item = tuple[Mapping[str, Any], Mapping[str, Any] | None]
"""One write of a bulk request: what to do with which passage, and the passage."""


def _scored(words: Sequence[str], pairs: Sequence[tuple[str, int, str]]) -> Mapping[str, Any]:
    """Return what makes one passage better than another; without any of the words it is no hit."""
    together = [
        {"match_phrase": {"text": {"query": f"{before} {after}", "slop": distance, "boost": 0.3}}}
        for before, distance, after in pairs
    ]
    fields = ["text", "headings^2"]
    return {
        "must": [{"combined_fields": {"query": " ".join(words), "fields": fields}}],
        "should": together,
    }


def _confined(
    tenant_id: str, wanted: Sequence[Mapping[str, Any]], scored: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {"bool": {"filter": [_is("tenant_id", tenant_id), *wanted], **(scored or {})}}


def _is(field: str, value: str) -> Mapping[str, Any]:
    return {"term": {field: _uuid(field, value)}}


def _among(field: str, values: Sequence[str]) -> Mapping[str, Any]:
    return {"terms": {field: [_uuid(field, value) for value in values]}}


def _uuid(field: str, value: str) -> str:
    """Return a canonical UUID. Raises: InvalidArgument for anything else."""
    return parse_id(value, field)


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Cut items into requests of at most MAX_BULK_BYTES."""
    part: list[_Item] = []
    size = 0
    for action, source in items:
        # Four bytes a character at most, and the names of the fields.
        own = 512 + (4 * (len(source["text"]) + len(source["headings"])) if source else 0)
        if part and size + own > MAX_BULK_BYTES:
            yield part
            part, size = [], 0
        part.append((action, source))
        size += own
    if part:
        yield part


def _is_refusal(error: Exception) -> bool:
    """Tell a request that is wrong from a server that cannot serve it now."""
    return isinstance(error, ApiError) and error.meta.status in {400, 405, 406, 413}
