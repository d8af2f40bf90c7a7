"""ToolService: protobuf in, domain call, protobuf out."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from meshwright.tool_exec.v1 import tool_pb2, tool_service_pb2
from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceServicer
from meshwright.types.v1 import page_pb2
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.telemetry import genai, tracing
from meshwright_tool_exec import wire
from meshwright_tool_exec.domain.execution import Execution, Started
from meshwright_tool_exec.domain.models import Source, ToolSpec
from meshwright_tool_exec.domain.registry import Registry
from meshwright_tool_exec.traced_execution import traced_execution

MAX_PAGE_SIZE = 200
DEFAULT_PAGE_SIZE = 50
MAX_MESSAGES = 4096
"""Tools whose messages are kept."""


Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives each method; unused here: the interceptors bind what matters."""


class ToolServicer(ToolServiceServicer):
    """Serves ToolService."""

    def __init__(self, registry: Registry, execution: Execution) -> None:
        self._registry = registry
        self._execution = execution
        self._messages: dict[int, tuple[ToolSpec, tool_pb2.Tool]] = {}

    async def ListTools(
        self,
        request: tool_service_pb2.ListToolsRequest,
        context: Context,
    ) -> tool_service_pb2.ListToolsResponse:
        """List the caller's tools by name; the page token is the last name seen."""
        size = request.page.page_size or DEFAULT_PAGE_SIZE
        if not 1 <= size <= MAX_PAGE_SIZE:
            raise invalid("page.page_size", f"must be 1 to {MAX_PAGE_SIZE}")
        specs = [
            spec
            for spec in self._registry.visible(principal(), frozenset(request.names))
            if spec.name > request.page.page_token
        ]
        shown = specs[:size]
        token = shown[-1].name if len(specs) > size else ""
        return tool_service_pb2.ListToolsResponse(
            tools=[self._message(spec) for spec in shown],
            page=page_pb2.PageInfo(next_page_token=token),
        )

    async def DescribeTool(
        self,
        request: tool_service_pb2.DescribeToolRequest,
        context: Context,
    ) -> tool_service_pb2.DescribeToolResponse:
        """Return one tool."""
        tool = self._registry.find(principal(), request.name)
        return tool_service_pb2.DescribeToolResponse(tool=self._message(tool.spec))

    def _message(self, spec: ToolSpec) -> tool_pb2.Tool:
        # Every model call of every agent asks for all of them: schemas are converted once. The spec
        # is kept with its message, so that its id stays its own.
        known = self._messages.get(id(spec))
        if known is None:
            if len(self._messages) >= MAX_MESSAGES:
                self._messages.clear()
            known = self._messages[id(spec)] = (spec, wire.tool_message(spec))
        return known[1]

    async def ExecuteTool(
        self,
        request: tool_service_pb2.ExecuteToolRequest,
        context: Context,
    ) -> AsyncIterator[tool_service_pb2.ExecuteToolResponse]:
        """Run a call and stream its events."""
        caller = principal()
        call = wire.call_from(request, caller.tenant_id)
        events = self._execution.execute(caller, call)
        span = tracing.inner(genai.tool_name(call.tool))
        if span.recording:
            is_mcp = self._registry.source_of(caller, call.tool) is Source.MCP
            events = traced_execution(span, call, events, is_mcp=is_mcp)
        async for event in events:
            if isinstance(event, Started):
                yield wire.started_message(event.call_id)
            else:
                yield wire.outcome_message(event)

    async def CancelCall(
        self,
        request: tool_service_pb2.CancelCallRequest,
        context: Context,
    ) -> tool_service_pb2.CancelCallResponse:
        """Stop a running call."""
        self._execution.cancel(principal(), request.call_id)
        return tool_service_pb2.CancelCallResponse()
