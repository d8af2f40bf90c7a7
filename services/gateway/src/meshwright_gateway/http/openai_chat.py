"""POST /v1/chat/completions, without a framework: OpenAI's wire over the model service."""

from typing import Final

import orjson

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import usage_pb2
from meshwright_common.clock import Clock
from meshwright_common.context import bind
from meshwright_common.errors import ServiceError, Unavailable
from meshwright_common.rpc.stream import open_stream
from meshwright_gateway.http import answer_cache, openai_wire, sse
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.presence import EventStream, LongAnswers, Presence
from meshwright_gateway.http.problems import Problem
from meshwright_gateway.http.schemas.openai import ChatCompletionRequest
from meshwright_gateway.http.validation import validated
from meshwright_gateway.peers import Peers
from meshwright_gateway.settings import GatewaySection

_DONE: Final = b"data: [DONE]\n\n"


class OpenAiChatRoute:
    """Chat completions, streamed and not."""

    def __init__(
        self, peers: Peers, answers: LongAnswers, settings: GatewaySection, clock: Clock
    ) -> None:
        self._models = peers.models
        self._answers = answers
        self._settings = settings
        self._clock = clock

    async def complete(self, exchange: Exchange) -> None:
        """Generate an answer; leaving ends the generation."""
        content = await exchange.read_json_object(
            self._settings.completion_limit_bytes, self._settings.body_timeout_seconds
        )
        body = validated(ChatCompletionRequest, content)
        request = openai_wire.generate_request(body)
        answer_cache.ask(exchange, request)
        head: dict[str, object] = {
            "id": f"chatcmpl-{exchange.request_id}",
            "object": "chat.completion.chunk" if body.stream else "chat.completion",
            "created": int(self._clock.now().timestamp()),
            "model": body.model,
        }
        with bind(exchange.call_context(None)):
            if body.stream:
                include_usage = body.stream_options is not None and bool(
                    body.stream_options.include_usage
                )
                await self._stream(exchange, request, head, include_usage)
            else:
                await self._answer(exchange, request, head)

    async def _stream(
        self,
        exchange: Exchange,
        request: model_service_pb2.GenerateRequest,
        head: dict[str, object],
        include_usage: bool,
    ) -> None:
        stream = EventStream(
            exchange,
            self._answers,
            headers=sse.STREAM_HEADERS,
            preamble=b"",
            error_frame=_error_frame,
        )
        frames: _Chunks | None = None
        # The head and the first chunk leave with the first output: an error before has a status.
        opening = b""
        async with stream, open_stream(self._models.Generate(request)) as responses:
            async for response in responses:
                event = response.event
                kind = event.WhichOneof("event")
                if kind == "started":
                    head["model"] = event.started.model or head["model"]
                    answer_cache.tell(exchange, event.started)
                    continue
                if frames is None:
                    frames = _Chunks(head, include_usage)
                    opening = frames.delta({"role": "assistant", "content": "", "refusal": None})
                if kind == "delta":
                    if not opening and frames.is_text(event.delta):
                        await stream.send_text("content", event.delta.text, frames.text)
                        continue
                    await stream.send(opening + frames.output(event.delta))
                    opening = b""
                elif kind == "finished":
                    await stream.send_last(opening + frames.end(event.finished) + _DONE)
                    return
            raise Unavailable("the generation ended without an end")

    async def _answer(
        self,
        exchange: Exchange,
        request: model_service_pb2.GenerateRequest,
        head: dict[str, object],
    ) -> None:
        texts: list[str] = []
        reasonings: list[str] = []
        finished: generation_pb2.GenerateFinished | None = None
        presence = Presence(exchange, self._answers)
        # Nothing is sent before the end: an answer that begins anew is an answer like any other.
        request.accepts_restart = True
        async with presence, open_stream(self._models.Generate(request)) as responses:
            async for response in responses:
                event = response.event
                kind = event.WhichOneof("event")
                if kind == "delta":
                    texts.append(event.delta.text)
                    reasonings.append(event.delta.reasoning)
                elif kind == "restarted":
                    texts.clear()
                    reasonings.clear()
                elif kind == "started":
                    head["model"] = event.started.model or head["model"]
                    answer_cache.tell(exchange, event.started)
                elif kind == "finished":
                    finished = event.finished
            if finished is None:
                raise Unavailable("the generation ended without an end")
        if presence.left or finished is None:
            return
        calls = openai_wire.tool_calls(finished)
        text, reasoning = "".join(texts), "".join(reasonings)
        message: dict[str, object] = {
            "role": "assistant",
            "content": text if text or not calls else None,
            "refusal": None,
            "annotations": [],
        }
        if calls:
            message["tool_calls"] = calls
        if reasoning:
            message["reasoning_content"] = reasoning
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": openai_wire.FINISH_REASONS.get(finished.finish_reason, "stop"),
        }
        usage = openai_wire.usage_object(finished.usage)
        await exchange.respond_json(
            200, {**head, "choices": [choice], "usage": usage, "system_fingerprint": None}
        )


class _Chunks:
    """Writes the chunks of one completion."""

    def __init__(self, head: dict[str, object], include_usage: bool) -> None:
        self._include_usage = include_usage
        opening = orjson.dumps({**head, "system_fingerprint": None})[:-1]
        usage = b',"usage":null' if include_usage else b""
        self._before_choices = b"data: " + opening + b',"choices":['
        self._before_delta = self._before_choices + b'{"index":0,"delta":'
        self._after_delta = b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._before_text = self._before_delta + b'{"content":'
        self._after_text = b"}" + self._after_delta
        self._after_finish = b"}]" + usage + b"}\n\n"

    @staticmethod
    def is_text(delta: generation_pb2.GenerateDelta) -> bool:
        """Return whether a piece of output is text and nothing else."""
        return bool(delta.text) and not delta.tool_calls and not delta.reasoning

    def text(self, text: str) -> bytes:
        """Return a piece of text."""
        return self._before_text + orjson.dumps(text) + self._after_text

    def output(self, delta: generation_pb2.GenerateDelta) -> bytes:
        """Return a piece of output."""
        if self.is_text(delta):
            return self.text(delta.text)
        content: dict[str, object] = {}
        if delta.text:
            content["content"] = delta.text
        if delta.reasoning:
            content["reasoning_content"] = delta.reasoning
        if delta.tool_calls:
            content["tool_calls"] = [_call_piece(call) for call in delta.tool_calls]
        return self.delta(content)

    def delta(self, content: dict[str, object]) -> bytes:
        """Return a chunk with any delta."""
        return self._before_delta + orjson.dumps(content) + self._after_delta

    def end(self, finished: generation_pb2.GenerateFinished) -> bytes:
        """Return the chunk with the finish reason, and the one with the usage if wanted."""
        reason = openai_wire.FINISH_REASONS.get(finished.finish_reason, "stop")
        last = (
            self._before_delta
            + b'{},"logprobs":null,"finish_reason":'
            + orjson.dumps(reason)
            + self._after_finish
        )
        return last + self._usage(finished.usage) if self._include_usage else last

    def _usage(self, usage: usage_pb2.TokenUsage) -> bytes:
        content = orjson.dumps(openai_wire.usage_object(usage))
        return self._before_choices + b'],"usage":' + content + b"}\n\n"


def _call_piece(call: generation_pb2.ToolCallDelta) -> dict[str, object]:
    function: dict[str, object] = {"arguments": call.arguments_json}
    piece: dict[str, object] = {"index": call.index, "function": function}
    if call.id:
        piece |= {"id": call.id, "type": "function"}
        function["name"] = call.name
    return piece


def _error_frame(error: ServiceError) -> bytes:
    return b"data: " + orjson.dumps(Problem.of(error, "").openai()) + b"\n\n"
