"""A tool's call on its span: which tool, how it ended. Arguments and result only if a setting says.

What the tool itself asks for (the web, retrieval) is below the span.
"""

from collections.abc import AsyncIterator

from meshwright_common import context
from meshwright_common.telemetry import captured, genai
from meshwright_common.telemetry.spans import Span
from meshwright_tool_exec.domain.execution import Started
from meshwright_tool_exec.domain.models import Call, Outcome

TOOL_FAILED = "tool_error"
"""How a span fails whose tool answered with an error: the call itself went well."""


async def traced_execution(
    span: Span, call: Call, events: AsyncIterator[Started | Outcome], *, is_mcp: bool
) -> AsyncIterator[Started | Outcome]:
    """Yield `events` as they come, and end `span` with them."""
    genai.describe_tool(span, tool=call.tool)
    if is_mcp:
        genai.describe_mcp_call(span)
    captured.put(span, genai.TOOL_CALL_ARGUMENTS, call.arguments_json)
    context.enter(context.current().traced(span.traceparent))
    try:
        async for event in events:
            if isinstance(event, Outcome):
                span.set("meshwright.tool.replayed", event.replayed)
                captured.put(span, genai.TOOL_CALL_RESULT, event.result_json)
                if event.is_error:
                    span.fail(TOOL_FAILED)
            yield event
    except BaseException as error:
        span.failed_by(error)
        raise
    finally:
        span.end()
