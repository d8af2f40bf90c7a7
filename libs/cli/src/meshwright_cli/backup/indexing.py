"""Index every document anew: what search stores outside of PostgreSQL need after a restore."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from meshwright.session.v1 import directory_service_pb2, tenant_pb2
from meshwright.types.v1 import page_pb2
from meshwright_cli.operator_calls import Operator

if TYPE_CHECKING:
    from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceAsyncStub

PAGE_SIZE: Final = 200


async def index_anew(operator: Operator, name: str, tell: Callable[[str, int], None]) -> int:
    """Have every searchable document of a tenant, or of all for "", indexed anew; return how many.

    The service does it in its own time; a document answers from its former index until it is done.
    `tell` hears the slug of each tenant and how many of its documents.
    Raises: CommandError for a tenant that is not there; what the calls raise.
    """
    knowledge: KnowledgeServiceAsyncStub = KnowledgeServiceStub(operator.channels.open("rag"))
    tenants = [await operator.tenant(name)] if name else [one async for one in _tenants(operator)]
    count = 0
    for tenant in tenants:
        # All of them before the first: lists are by age, and what is indexed anew is news.
        found = [one async for one in _documents(operator, knowledge, tenant.tenant_id)]
        for document_id in found:
            with operator.inside(tenant.tenant_id):
                await knowledge.Reindex(
                    knowledge_service_pb2.ReindexRequest(document_id=document_id)
                )
        tell(tenant.slug, len(found))
        count += len(found)
    return count


async def _tenants(operator: Operator) -> AsyncIterator[tenant_pb2.Tenant]:
    """Yield the tenants that may be worked for."""
    page = page_pb2.PageRequest(page_size=PAGE_SIZE)
    while True:
        with operator.everywhere():
            answer = await operator.directory.ListTenants(
                directory_service_pb2.ListTenantsRequest(page=page)
            )
        for one in answer.tenants:
            if one.state == tenant_pb2.TENANT_STATE_ACTIVE:
                yield one
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return


async def _documents(
    operator: Operator, knowledge: KnowledgeServiceAsyncStub, tenant_id: str
) -> AsyncIterator[str]:
    """Yield the ids of a tenant's searchable documents."""
    async for base in _knowledge_bases(operator, knowledge, tenant_id):
        page = page_pb2.PageRequest(page_size=PAGE_SIZE)
        while True:
            with operator.inside(tenant_id):
                answer = await knowledge.ListDocuments(
                    knowledge_service_pb2.ListDocumentsRequest(knowledge_base_id=base, page=page)
                )
            for one in answer.documents:
                if one.state == document_pb2.DOCUMENT_STATE_READY:
                    yield one.document_id
            page.page_token = answer.page.next_page_token
            if not page.page_token:
                break


async def _knowledge_bases(
    operator: Operator, knowledge: KnowledgeServiceAsyncStub, tenant_id: str
) -> AsyncIterator[str]:
    page = page_pb2.PageRequest(page_size=PAGE_SIZE)
    while True:
        with operator.inside(tenant_id):
            answer = await knowledge.ListKnowledgeBases(
                knowledge_service_pb2.ListKnowledgeBasesRequest(page=page)
            )
        for one in answer.knowledge_bases:
            yield one.knowledge_base_id
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return
