"""OpenTelemetry's words for models, agents and tools: the one place that knows them.

The conventions are still "in development", so their names live here and nowhere else, and the
version they are of stands on every span (its scope's schema). To follow a newer version: change
this file and its test.

Source: GenAI semantic conventions 1.44.0 (spans: inference, invoke agent, execute tool), as in
the package `opentelemetry-semantic-conventions` 0.66b2; open-telemetry/semantic-conventions-genai
carries them on.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from meshwright_common.telemetry.spans import Span

CONVENTIONS_VERSION: Final = "1.44.0"
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{CONVENTIONS_VERSION}"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_VERSION: Final = "gen_ai.agent.version"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
MCP_METHOD_NAME: Final = "mcp.method.name"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

TIME_PER_OUTPUT_TOKEN: Final = "meshwright.response.time_per_output_token"  # noqa: S105 -- a name
"""Ours: the conventions have it as a metric only. Seconds between the first token and the last,
for each token after the first."""

CHAT: Final = "chat"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"

_NAME: Final = re.compile(r"[A-Za-z0-9_.:/@-]{1,100}")
_PROVIDERS: Final = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "anthropic": "anthropic",
    "offline": "meshwright",
}
"""Our word for a provider's protocol, and the registry's for the provider. Others stand as ours."""


def provider_name(provider: str) -> str:
    """Return the registry's name of a provider."""
    return _PROVIDERS.get(provider, provider)


def chat_name(model: str) -> str:
    """Return the name of the span of one inference."""
    return _named(CHAT, model)


def agent_name(agent: str) -> str:
    """Return the name of the span of an agent's work."""
    return _named(INVOKE_AGENT, agent)


def tool_name(tool: str) -> str:
    """Return the name of the span of a tool's call."""
    return _named(EXECUTE_TOOL, tool)


@lru_cache(maxsize=1024)
def _named(operation: str, subject: str) -> str:
    # Callers and models name what does not exist, too: a name of a span is no place for texts.
    return f"{operation} {subject}" if _NAME.fullmatch(subject) else operation


def describe_request(
    span: Span,
    *,
    model: str,
    conversation_id: str,
    max_tokens: int | None,
    temperature: float | None,
) -> None:
    """Note what is asked of a model. What is not set is left out."""
    span.set(OPERATION_NAME, CHAT)
    span.set(REQUEST_STREAM, True)
    if _NAME.fullmatch(model):
        span.set(REQUEST_MODEL, model)
    if conversation_id:
        span.set(CONVERSATION_ID, conversation_id)
    if max_tokens is not None:
        span.set(REQUEST_MAX_TOKENS, max_tokens)
    if temperature is not None:
        span.set(REQUEST_TEMPERATURE, temperature)


def describe_usage(
    span: Span,
    *,
    finish_reason: str,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int,
    reasoning_tokens: int,
) -> None:
    """Note how an answer ended and what it took."""
    span.set(RESPONSE_FINISH_REASONS, (finish_reason,))
    span.set(USAGE_INPUT_TOKENS, input_tokens)
    span.set(USAGE_OUTPUT_TOKENS, output_tokens)
    span.set(USAGE_CACHE_READ_INPUT_TOKENS, cached_tokens)
    span.set(USAGE_REASONING_OUTPUT_TOKENS, reasoning_tokens)


def describe_pace(
    span: Span, *, first_chunk_seconds: float, streamed_seconds: float, output_tokens: int
) -> None:
    """Note when the first piece came, and how fast the others followed it."""
    span.set(RESPONSE_TIME_TO_FIRST_CHUNK, round(first_chunk_seconds, 6))
    if output_tokens > 1:
        span.set(TIME_PER_OUTPUT_TOKEN, round(streamed_seconds / (output_tokens - 1), 6))


def describe_agent(span: Span, *, agent: str, version: int, conversation_id: str) -> None:
    """Note which agent works, for which conversation."""
    span.set(OPERATION_NAME, INVOKE_AGENT)
    span.set(PROVIDER_NAME, "meshwright")
    span.set(AGENT_NAME, agent)
    if version > 0:
        span.set(AGENT_VERSION, str(version))
    if conversation_id:
        span.set(CONVERSATION_ID, conversation_id)


def describe_tool(span: Span, *, tool: str) -> None:
    """Note which tool is called."""
    span.set(OPERATION_NAME, EXECUTE_TOOL)
    if _NAME.fullmatch(tool):
        span.set(TOOL_NAME, tool)
    span.set(TOOL_TYPE, "function")


def describe_mcp_call(span: Span) -> None:
    """Note that the tool is a server's of MCP: its call is one request there."""
    span.set(MCP_METHOD_NAME, "tools/call")


def text_message(role: str, text: str) -> dict[str, object]:
    """Return a message in the conventions' form, as it stands in captured content."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def tool_call_part(name: str, arguments: str) -> dict[str, object]:
    """Return a part that asks for a tool, in the same form."""
    return {"type": "tool_call", "name": name, "arguments": arguments}


def with_parts(message: dict[str, object], parts: Sequence[dict[str, object]]) -> dict[str, object]:
    """Return `message` with more parts behind its own."""
    own = message["parts"]
    return {**message, "parts": [*own, *parts]} if isinstance(own, list) else message
