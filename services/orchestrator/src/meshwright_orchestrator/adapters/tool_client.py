"""Tools over tool-exec's stub."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import stamina
import structlog
from google.protobuf import json_format

from meshwright.tool_exec.v1 import tool_pb2, tool_service_pb2
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.context import Principal, principal
from meshwright_common.errors import Aborted, Unavailable
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.rpc.stream import open_stream
from meshwright_orchestrator.domain.conversation import ToolOffer
from meshwright_orchestrator.domain.journal import ToolResult
from meshwright_orchestrator.domain.models import Citation
from meshwright_orchestrator.domain.ports import ToolRequest
from meshwright_orchestrator.wire import values

if TYPE_CHECKING:
    from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceAsyncStub

logger = structlog.get_logger(__name__)

MAX_OFFERS: Final = 128
"""Tools that one model call takes (model_router/v1/model_service.proto)."""
OFFERED_SECONDS: Final = 2.0
"""How long the tools of a caller are remembered: a right that was taken is gone after this."""
MAX_OFFERED: Final = 1024
"""Callers whose tools are remembered."""
MAX_DESCRIPTION_BYTES: Final = 4 * 1024
ATTEMPTS: Final = 3
LONGEST_PAUSE_SECONDS: Final = 2.0


class ToolClient:
    """Tools: see the port."""

    def __init__(self, stub: ToolServiceAsyncStub) -> None:
        self._stub = stub
        self._offers: dict[Principal, tuple[float, tuple[ToolOffer, ...]]] = {}

    async def offered(self) -> tuple[ToolOffer, ...]:
        # Asked for by every turn. Whether a tool may be used is decided when it is.
        caller, now = principal(), time.monotonic()
        known = self._offers.get(caller)
        if known is not None and now < known[0]:
            return known[1]
        offers = await self._list()
        if len(self._offers) >= MAX_OFFERED:
            self._offers.clear()
        self._offers[caller] = (now + OFFERED_SECONDS, offers)
        return offers

    async def _list(self) -> tuple[ToolOffer, ...]:
        response = await self._stub.ListTools(
            tool_service_pb2.ListToolsRequest(page=page_pb2.PageRequest(page_size=MAX_OFFERS))
        )
        return tuple(_offer(tool) for tool in response.tools)

    async def execute(self, request: ToolRequest) -> ToolResult:
        # The key makes a repeated call safe: tool-exec returns what it recorded and runs nothing.
        async for attempt in stamina.retry_context(
            on=(Unavailable, Aborted),
            attempts=ATTEMPTS,
            timeout=None,
            wait_initial=0.2,
            wait_jitter=0.2,
            wait_max=LONGEST_PAUSE_SECONDS,
        ):
            with attempt:
                return await self._execute(request)
        raise AssertionError("stamina returns or raises")

    async def _execute(self, request: ToolRequest) -> ToolResult:
        call = self._stub.ExecuteTool(
            tool_service_pb2.ExecuteToolRequest(
                name=request.call.name,
                arguments_json=request.call.arguments_json,
                task_id=request.key.task_id,
                step=request.key.step,
                call_index=request.index,
                knowledge_base_ids=request.knowledge_base_ids,
            )
        )
        outcome: tool_pb2.ToolOutcome | None = None
        async with open_stream(call) as responses:
            async for response in responses:
                if response.event.WhichOneof("event") == "outcome":
                    outcome = response.event.outcome
        failpoint("tool-answered")
        if outcome is None:
            raise Unavailable("the tool's stream ended without an outcome")
        return ToolResult(
            tool_call_id=request.call.id,
            name=request.call.name,
            result_json=outcome.result_json,
            is_error=outcome.is_error,
            truncated=outcome.truncated,
            citations=_citations(outcome),
        )


def _offer(tool: tool_pb2.Tool) -> ToolOffer:
    description = tool.description.encode()[:MAX_DESCRIPTION_BYTES].decode(errors="ignore")
    return ToolOffer(tool.name, description, json_format.MessageToDict(tool.input_schema))


def _citations(outcome: tool_pb2.ToolOutcome) -> tuple[Citation, ...]:
    try:
        return tuple(
            values.citation_from(json_format.Parse(text, message_pb2.Citation()))
            for text in outcome.citations_json
        )
    except json_format.ParseError:
        # The result itself is whole: it is only not cited.
        logger.warning("tool_citations_unreadable", count=len(outcome.citations_json))
        return ()
