"""A generation on its span: what was asked, who answered, how fast, how it ended."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from meshwright_common import context
from meshwright_common.telemetry import captured, genai
from meshwright_common.telemetry.spans import Span
from meshwright_model_router.domain.call import ModelCall
from meshwright_model_router.domain.output import (
    CacheStatus,
    Finished,
    GenerationOutput,
    Piece,
    Restarted,
    Started,
)


async def traced_generation(
    span: Span,
    call: ModelCall,
    outputs: AsyncGenerator[GenerationOutput, None],
    provider_of: Callable[[str], str],
) -> AsyncGenerator[GenerationOutput, None]:
    """Yield `outputs` as they come, and end `span` with them. `provider_of` a deployment's name.

    The span is current from the first output on, for what is sent to the provider.
    """
    describe_call(span, call)
    if captured.wanted(span):
        asked = [genai.text_message(one.role.value, one.text) for one in call.prompt.messages]
        captured.put(span, genai.INPUT_MESSAGES, asked)
    context.enter(context.current().traced(span.traceparent))
    pace = _Pace()
    texts: list[str] | None = [] if captured.wanted(span) else None
    try:
        async with aclosing(outputs):
            async for output in outputs:
                match output:
                    case Piece():
                        pace.piece()
                        if texts is not None:
                            texts.append(output.text)
                    case Started() | Restarted():
                        if not call.model:
                            # The default one, which has a name only now.
                            span.name = genai.chat_name(output.model)
                        _describe_answerer(span, output, provider_of)
                        if texts:
                            texts.clear()
                    case Finished():
                        _describe_end(span, output, pace, texts)
                yield output
    except BaseException as error:
        span.failed_by(error)
        raise
    finally:
        span.end()


def describe_call(span: Span, call: ModelCall) -> None:
    """Note what is asked of a model, and for which task."""
    options = call.prompt.options
    genai.describe_request(
        span,
        model=call.model,
        conversation_id=call.attribution.session_id,
        max_tokens=options.max_output_tokens,
        temperature=options.temperature,
    )
    attribution = call.attribution
    if attribution.task_id:
        span.set("meshwright.task_id", attribution.task_id)
        span.set("meshwright.step", attribution.step)


class _Pace:
    """When pieces came. One reading of the clock a piece, on recorded calls alone."""

    __slots__ = ("_asked_at", "_first_at", "_last_at")

    def __init__(self) -> None:
        self._asked_at = time.perf_counter()
        self._first_at = self._last_at = 0.0

    def piece(self) -> None:
        self._last_at = time.perf_counter()
        self._first_at = self._first_at or self._last_at

    def describe(self, span: Span, output_tokens: int) -> None:
        if self._first_at:
            genai.describe_pace(
                span,
                first_chunk_seconds=self._first_at - self._asked_at,
                streamed_seconds=self._last_at - self._first_at,
                output_tokens=output_tokens,
            )


def _describe_answerer(
    span: Span, output: Started | Restarted, provider_of: Callable[[str], str]
) -> None:
    span.set(genai.RESPONSE_MODEL, output.model)
    span.set("meshwright.deployment", output.deployment)
    if isinstance(output, Started) and output.cache_status is not CacheStatus.NONE:
        span.set("meshwright.cache", output.cache_status.value)
    provider = provider_of(output.deployment)
    if provider:
        span.set(genai.PROVIDER_NAME, genai.provider_name(provider))


def _describe_end(span: Span, end: Finished, pace: _Pace, texts: list[str] | None) -> None:
    usage = end.usage
    genai.describe_usage(
        span,
        finish_reason=end.finish_reason.value,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
    pace.describe(span, usage.completion_tokens)
    if texts is not None:
        parts = [genai.tool_call_part(one.name, one.arguments_json) for one in end.tool_calls]
        message = genai.text_message("assistant", "".join(texts))
        captured.put(span, genai.OUTPUT_MESSAGES, [genai.with_parts(message, parts)])
