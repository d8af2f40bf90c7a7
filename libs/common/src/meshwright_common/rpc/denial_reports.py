"""Tells the audit log, once a minute, what this process has denied."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc.aio

from meshwright.session.v1 import audit_service_pb2
from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceStub
from meshwright_common.app import App, BackgroundTask
from meshwright_common.context import MESH_INTERNAL, bind, service_context
from meshwright_common.errors import ServiceError
from meshwright_common.identity.denials import Denials, Denied
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.telemetry.logging import get_logger

NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
REPORT_SECONDS: Final = 2.0
MOST_HELD: Final = 20
"""Reports that wait for the session service to be back: twenty minutes of them."""

_logger = get_logger(__name__)


class DenialReports:
    """Reports what `denials` has counted, in the name of `service`."""

    def __init__(
        self, channels: Channels, denials: Denials, *, service: str, every_seconds: float
    ) -> None:
        self._audit = AuditServiceStub(channels.open("session"))
        self._denials = denials
        self._service = service
        self._every_seconds = every_seconds
        self._held: list[audit_service_pb2.RecordDenialsRequest] = []
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Report until stopped, and once more then."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self._every_seconds):
                    await self._stopping.wait()
            except TimeoutError:
                pass
            await self.report()

    def stop(self) -> None:
        """Report what there is, and no more."""
        self._stopping.set()

    async def report(self) -> None:
        """Report what was counted since the last time, and what could not be reported then."""
        if denied := self._denials.take():
            self._held.append(_request(denied))
        if len(self._held) > MOST_HELD:
            _logger.warning("denials_dropped", count=len(self._held[0].denials))
            del self._held[0]
        while self._held:
            call = service_context(
                self._service, NO_TENANT, (MESH_INTERNAL,), timeout_seconds=REPORT_SECONDS
            )
            try:
                with bind(call):
                    await self._audit.RecordDenials(self._held[0])
            except ServiceError as error:
                # Told again under the same id: recorded once.
                _logger.warning("denials_not_reported", reason=error.reason)
                return
            del self._held[0]


def denial_reporting(
    channels: Channels, denials: Denials, *, service: str, every_seconds: float
) -> App:
    """Return what reports denials beside the apps of a process."""
    reports = DenialReports(channels, denials, service=service, every_seconds=every_seconds)
    return App(
        name="denials",
        register=_register_nothing,
        tasks=(BackgroundTask("denial-reports", reports.run, reports.stop),),
    )


def _register_nothing(server: grpc.aio.Server) -> None:
    """Serves nothing."""


def _request(denied: Sequence[Denied]) -> audit_service_pb2.RecordDenialsRequest:
    request = audit_service_pb2.RecordDenialsRequest(request_id=new_id())
    for one in denied:
        kind = one.kind
        denial = request.denials.add(
            tenant_id=kind.tenant_id,
            actor=kind.actor,
            action=kind.action,
            resource=kind.resource,
            reason=kind.reason,
            address=kind.address,
            count=one.count,
        )
        denial.first_time.FromDatetime(one.first_time)
        denial.last_time.FromDatetime(one.last_time)
    return request
