"""Usage, how tasks ended, and audit."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from meshwright.session.v1 import audit_service_pb2, usage_service_pb2
from meshwright_gateway.http.paging import API_PREFIX, PageSize, PageToken
from meshwright_gateway.http.schemas import records as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.records import (
    audit_view,
    checkpoint_view,
    task_statistics_view,
    usage_request,
    usage_sum_view,
    verdict_view,
)

if TYPE_CHECKING:
    from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

StartTime = Annotated[AwareDatetime | None, Query(description="From this moment on.")]
EndTime = Annotated[AwareDatetime | None, Query(description="Before this moment. Absent: now.")]


def usage_router(usage: "UsageServiceAsyncStub") -> APIRouter:
    """Return the routes of usage reports."""
    router = APIRouter(prefix=f"{API_PREFIX}/usage", tags=["records"])

    @router.get("")
    async def query_usage(
        start_time: StartTime = None,
        end_time: EndTime = None,
        group_by: Annotated[list[schemas.UsageGroup] | None, Query(max_length=4)] = None,
        user_id: Annotated[str, Query(max_length=64)] = "",
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.UsageReport:
        """Sums of what was consumed; of the last 30 days unless asked otherwise."""
        request = usage_request(start_time, end_time, group_by or [], user_id)
        request.page.CopyFrom(values.page_request(page_size, page_token))
        answer = await usage.QueryUsage(request)
        return schemas.UsageReport(
            sums=[usage_sum_view(row) for row in answer.sums],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/tasks")
    async def query_task_statistics(
        start_time: StartTime = None,
        end_time: EndTime = None,
        user_id: Annotated[str, Query(max_length=64)] = "",
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.TaskReport:
        """Tasks that ended, by UTC day, agent and state; of the last 30 days unless asked
        otherwise. Days are whole."""
        answer = await usage.QueryTaskStatistics(
            usage_service_pb2.QueryTaskStatisticsRequest(
                start_time=values.timestamp_of(start_time),
                end_time=values.timestamp_of(end_time),
                user_id=user_id,
                page=values.page_request(page_size, page_token),
            )
        )
        return schemas.TaskReport(
            statistics=[task_statistics_view(row) for row in answer.statistics],
            next_page_token=answer.page.next_page_token,
        )

    return router


def audit_router(audit: "AuditServiceAsyncStub") -> APIRouter:
    """Return the routes about the audit log."""
    router = APIRouter(prefix=f"{API_PREFIX}/audit", tags=["records"])

    @router.get("")
    async def query_audit(
        start_time: StartTime = None,
        end_time: EndTime = None,
        actor: Annotated[str, Query(max_length=128)] = "",
        action_prefix: Annotated[str, Query(max_length=128)] = "",
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.AuditList:
        """Audit records, newest first."""
        answer = await audit.QueryAudit(
            audit_service_pb2.QueryAuditRequest(
                start_time=values.timestamp_of(start_time),
                end_time=values.timestamp_of(end_time),
                actor=actor,
                action_prefix=action_prefix,
                page=values.page_request(page_size, page_token),
            )
        )
        return schemas.AuditList(
            records=[audit_view(record) for record in answer.records],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/verify")
    async def verify_audit() -> schemas.AuditVerdict:
        """Recompute the chain of the tenant's records, and compare it with its checkpoints."""
        return verdict_view(await audit.VerifyAudit(audit_service_pb2.VerifyAuditRequest()))

    @router.get("/checkpoints")
    async def list_audit_checkpoints(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.AuditCheckpointList:
        """Signed checkpoints of the chain, newest first."""
        answer = await audit.ListCheckpoints(
            audit_service_pb2.ListCheckpointsRequest(
                page=values.page_request(page_size, page_token)
            )
        )
        return schemas.AuditCheckpointList(
            checkpoints=[checkpoint_view(one) for one in answer.checkpoints],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/keys")
    async def list_audit_keys() -> schemas.SigningKeyList:
        """The public keys that checkpoints are verified with."""
        answer = await audit.ListSigningKeys(audit_service_pb2.ListSigningKeysRequest())
        return schemas.SigningKeyList(
            keys=[
                schemas.SigningKey(key_id=one.key_id, public_key=one.public_key)
                for one in answer.keys
            ]
        )

    return router
