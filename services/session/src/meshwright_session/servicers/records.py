"""UsageService and AuditService."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from prometheus_client import Counter

from meshwright.session.v1 import audit_service_pb2, usage_service_pb2
from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceServicer
from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceServicer
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_common.telemetry import metric_names
from meshwright_session.domain.audit_denials import DenialLog
from meshwright_session.domain.audit_trail import AuditTrail
from meshwright_session.domain.task_statistics import TaskReports
from meshwright_session.domain.usage_reports import UsageReports
from meshwright_session.servicers import Context
from meshwright_session.wire import audit, task_statistics, usage, values

VERIFICATIONS: Final = Counter(
    metric_names.AUDIT_VERIFICATIONS,
    "Verifications of audit logs that somebody asked for: intact or broken.",
    ("result",),
)
for _result in ("intact", "broken"):
    VERIFICATIONS.labels(_result)


class UsageServicer(UsageServiceServicer):
    """Serves UsageService."""

    def __init__(self, reports: UsageReports, tasks: TaskReports) -> None:
        self._reports = reports
        self._tasks = tasks

    async def QueryUsage(
        self, request: usage_service_pb2.QueryUsageRequest, context: Context
    ) -> usage_service_pb2.QueryUsageResponse:
        """Return a page of sums."""
        page = await self._reports.sums(
            principal(), usage.question(request), values.page_request(request.page)
        )
        return usage_service_pb2.QueryUsageResponse(
            sums=usage.sum_messages(page.rows), page=values.page_info(page.next_token)
        )

    async def ExportRows(
        self, request: usage_service_pb2.ExportRowsRequest, context: Context
    ) -> AsyncIterator[usage_service_pb2.ExportRowsResponse]:
        """Stream the ledger's rows."""
        start = values.moment(request, "start_time")
        end = values.moment(request, "end_time")
        async for row in self._reports.rows(principal(), start, end):
            yield usage.row_message(row)

    async def QueryTaskStatistics(
        self, request: usage_service_pb2.QueryTaskStatisticsRequest, context: Context
    ) -> usage_service_pb2.QueryTaskStatisticsResponse:
        """Return a page of statistics."""
        page = await self._tasks.by_day(
            principal(), task_statistics.question(request), values.page_request(request.page)
        )
        return usage_service_pb2.QueryTaskStatisticsResponse(
            statistics=task_statistics.statistics_messages(page.rows),
            page=values.page_info(page.next_token),
        )


class AuditServicer(AuditServiceServicer):
    """Serves AuditService."""

    def __init__(
        self, trail: AuditTrail, public_keys: Mapping[str, str], denials: DenialLog
    ) -> None:
        self._trail = trail
        self._public_keys = public_keys
        self._denials = denials

    async def QueryAudit(
        self, request: audit_service_pb2.QueryAuditRequest, context: Context
    ) -> audit_service_pb2.QueryAuditResponse:
        """Return a page of records."""
        page = await self._trail.query(
            principal(), audit.wanted(request), values.page_request(request.page)
        )
        return audit_service_pb2.QueryAuditResponse(
            records=audit.record_messages(page.rows), page=values.page_info(page.next_token)
        )

    async def VerifyAudit(
        self, request: audit_service_pb2.VerifyAuditRequest, context: Context
    ) -> audit_service_pb2.VerifyAuditResponse:
        """Recompute the chain, and compare it with its checkpoints."""
        verdict = await self._trail.verify(principal())
        VERIFICATIONS.labels("intact" if verdict.valid else "broken").inc()
        return audit.verdict_message(verdict)

    async def ListCheckpoints(
        self, request: audit_service_pb2.ListCheckpointsRequest, context: Context
    ) -> audit_service_pb2.ListCheckpointsResponse:
        """Return a page of checkpoints."""
        page = await self._trail.checkpoints(principal(), values.page_request(request.page))
        return audit_service_pb2.ListCheckpointsResponse(
            checkpoints=audit.checkpoint_messages(page.rows),
            page=values.page_info(page.next_token),
        )

    async def ListSigningKeys(
        self, request: audit_service_pb2.ListSigningKeysRequest, context: Context
    ) -> audit_service_pb2.ListSigningKeysResponse:
        """Return the public keys."""
        return audit_service_pb2.ListSigningKeysResponse(
            keys=[
                audit_service_pb2.SigningKey(key_id=key_id, public_key=pem)
                for key_id, pem in sorted(self._public_keys.items())
            ]
        )

    async def RecordDenials(
        self, request: audit_service_pb2.RecordDenialsRequest, context: Context
    ) -> audit_service_pb2.RecordDenialsResponse:
        """Tell refused logins and denied calls to the logs of their tenants."""
        request_id = parse_id(request.request_id, "request_id")
        await self._denials.add(request_id, audit.denials_of(request))
        return audit_service_pb2.RecordDenialsResponse()
