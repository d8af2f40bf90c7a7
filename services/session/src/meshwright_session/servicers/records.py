"""UsageService and AuditService."""

from collections.abc import AsyncIterator

from meshwright.session.v1 import audit_service_pb2, usage_service_pb2
from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceServicer
from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceServicer
from meshwright_common.context import principal
from meshwright_session.domain.audit_trail import AuditTrail
from meshwright_session.domain.task_statistics import TaskReports
from meshwright_session.domain.usage_reports import UsageReports
from meshwright_session.servicers import Context
from meshwright_session.wire import audit, task_statistics, usage, values


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

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

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
        """Recompute the chain."""
        return audit.verdict_message(await self._trail.verify(principal()))
