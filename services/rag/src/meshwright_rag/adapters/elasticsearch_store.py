"""Passages in Elasticsearch, as a store that can forget. They name no user."""

from meshwright_common.erasure.stored import Subject
from meshwright_rag.adapters.elasticsearch import ElasticsearchIndex


class ElasticsearchPassages:
    """`StoredData` on the passages of a tenant."""

    name = "elasticsearch:passages"

    def __init__(self, index: ElasticsearchIndex) -> None:
        self._index = index

    async def erase(self, subject: Subject) -> int:
        return 0 if subject.user_id else await self._index.discard_tenant(subject.tenant_id)

    async def remaining(self, subject: Subject) -> int:
        return 0 if subject.user_id else await self._index.count_tenant(subject.tenant_id)
