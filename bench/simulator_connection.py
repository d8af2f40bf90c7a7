"""The simulated provider's side of one HTTP connection, on asyncio's raw protocol."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import cast

import httptools
import msgspec

from bench import anthropic_wire, directives, embeddings, malformed, verdicts
from bench.answers import Answer, answer_to, directive_of
from bench.anthropic_wire import MessageRequest
from bench.azure_wire import AzureAnswer
from bench.directives import Cut, DirectiveError, ReplyPlan
from bench.emission import DamagedEmission, Emission, reset_connection
from bench.openai_wire import ChatRequest, EmbeddingRequest, error
from bench.simulator_state import ReceivedRequest, Simulator
from bench.verdicts import ModerationRequest, RerankRequest

MAX_BODY_BYTES = 64 * 1024 * 1024
OK, BAD_REQUEST, NOT_FOUND, TOO_LARGE = 200, 400, 404, 413
_REASONS = {OK: b"OK", BAD_REQUEST: b"Bad Request", NOT_FOUND: b"Not Found"}
_chat_decoder = msgspec.json.Decoder(ChatRequest)
_embedding_decoder = msgspec.json.Decoder(EmbeddingRequest)
_message_decoder = msgspec.json.Decoder(MessageRequest)
_rerank_decoder = msgspec.json.Decoder(RerankRequest)
_moderation_decoder = msgspec.json.Decoder(ModerationRequest)
_AZURE = re.compile(rb"/openai(?:/v1|/deployments/[^/]+)/(chat/completions|embeddings)")


class SimulatorConnection(asyncio.Protocol):
    """One connection: requests are answered one after the other, pipelined ones wait."""

    def __init__(self, simulator: Simulator) -> None:
        """Nothing is read before the connection is made."""
        self._simulator = simulator
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[bytes, bytes, bool]] = deque()
        self._emission: Emission | DamagedEmission | None = None
        self._delayed: asyncio.TimerHandle | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse; what is no HTTP is answered 400 and cut off."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            self._respond(BAD_REQUEST, error(BAD_REQUEST, f"not HTTP/1.1: {problem}"))
            self._transport.close()
            return
        # Not from the parser's callbacks: it would hide what they raise.
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what was under way."""
        self._waiting.clear()
        if self._delayed is not None:
            self._delayed.cancel()
        if self._emission is not None:
            self._emission.cancel()
            self._simulator.counters.abandoned += not self._emission.closed_by_plan
            self._stream_ended(self._emission)

    def pause_writing(self) -> None:
        """The reader is slow."""
        if self._emission is not None:
            self._emission.pause()

    def resume_writing(self) -> None:
        """The reader takes more."""
        if self._emission is not None:
            self._emission.resume()

    # httptools

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._url = url
        self._headers = {}
        self._body = []
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the header if requests are recorded."""
        if self._simulator.record:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Collect the body, up to its limit."""
        self._body_bytes += len(body)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Queue the request; it is answered after the ones before it."""
        path, body = self._url.partition(b"?")[0], b"".join(self._body)
        simulator = self._simulator
        simulator.counters.requests += 1
        if simulator.record and not path.startswith(b"/simulator/"):
            text = body.decode("utf-8", "replace")
            simulator.requests.append(ReceivedRequest(path.decode(), self._headers, text))
        self._waiting.append((path, body, self._body_bytes > MAX_BODY_BYTES))

    # answers

    def _next(self) -> None:
        while self._waiting and self._emission is None and self._delayed is None:
            self._route(*self._waiting.popleft())

    def _route(self, path: bytes, body: bytes, too_large: bool) -> None:
        simulator = self._simulator
        try:
            if too_large:
                self._respond(TOO_LARGE, error(TOO_LARGE, "body too large"))
            elif (post := self._post(path)) is not None:
                post(body)
            elif path == b"/v1/models":
                self._respond(OK, _models(simulator.started))
            elif path == b"/simulator/counters":
                self._respond(OK, msgspec.json.encode(asdict(simulator.counters)))
            elif path == b"/simulator/requests":
                self._respond(OK, msgspec.json.encode(list(simulator.requests)))
            else:
                self._respond(NOT_FOUND, error(NOT_FOUND, f"no such path {path.decode()!r}"))
        except (msgspec.DecodeError, DirectiveError) as problem:
            self._respond(BAD_REQUEST, error(BAD_REQUEST, str(problem)))

    def _post(self, path: bytes) -> Callable[[bytes], None] | None:
        if azure := _AZURE.fullmatch(path):
            return self._embed if azure[1] == b"embeddings" else self._azure_chat
        return {
            b"/v1/chat/completions": self._chat,
            b"/v1/embeddings": self._embed,
            b"/v1/messages": self._message,
            b"/v1/rerank": self._rerank,
            b"/v1/moderations": self._moderate,
        }.get(path)

    def _azure_chat(self, body: bytes) -> None:
        self._chat(body, azure=True)

    def _chat(self, body: bytes, *, azure: bool = False) -> None:
        request = _chat_decoder.decode(body)
        simulator = self._simulator
        simulator.counters.chat += 1
        plan = simulator.plan_for(directive_of(request))
        if self._failed(plan):
            return
        answer = answer_to(request, plan, number=simulator.counters.chat, created=simulator.started)
        if azure:
            answer = AzureAnswer.of(answer)
        self._answer(answer, plan, stream=bool(request.stream))

    def _message(self, body: bytes) -> None:
        simulator = self._simulator
        simulator.counters.chat += 1
        try:
            request = _message_decoder.decode(body)
            plan = simulator.plan_for(anthropic_wire.directive_of(request))
            if self._failed(plan, anthropic_wire.error):
                return
            answer = anthropic_wire.answer_to(
                request, plan, number=simulator.counters.chat, created=simulator.started
            )
            self._answer(answer, plan, stream=bool(request.stream))
        except (msgspec.DecodeError, DirectiveError) as problem:
            self._respond(BAD_REQUEST, anthropic_wire.error(BAD_REQUEST, str(problem)))

    def _answer(self, answer: Answer, plan: ReplyPlan, *, stream: bool) -> None:
        simulator = self._simulator
        simulator.counters.prompt_tokens += answer.prompt_tokens
        if stream:
            self._stream(answer, plan)
            return
        delay = plan.first_token_ms / 1000
        if plan.tokens_per_second:
            delay += answer.length / plan.tokens_per_second
        simulator.counters.tokens += answer.length
        if delay:
            self._delayed = self._loop.call_later(delay, self._respond_late, answer)
        else:
            self._respond(OK, answer.body())

    def _embed(self, body: bytes) -> None:
        request = _embedding_decoder.decode(body)
        self._simulator.counters.embeddings += 1
        directive = directives.find(" ".join(embeddings.texts_of(request))) or request.model
        plan = self._simulator.plan_for(directive)
        if not self._failed(plan):
            self._respond(OK, embeddings.answer(request, plan.dimensions))

    def _rerank(self, body: bytes) -> None:
        request = _rerank_decoder.decode(body)
        plan = self._simulator.plan_for(directives.find(request.query) or request.model)
        if not self._failed(plan):
            self._respond(OK, verdicts.ranking(request))

    def _moderate(self, body: bytes) -> None:
        request = _moderation_decoder.decode(body)
        said = " ".join(verdicts.texts_of(request))
        plan = self._simulator.plan_for(directives.find(said) or request.model)
        if not self._failed(plan):
            self._respond(OK, verdicts.verdicts(request))

    def _failed(self, plan: ReplyPlan, error: Callable[[int, str], bytes] = error) -> bool:
        """Do what a faulty plan wants before any answer begins."""
        if plan.cut is Cut.HANG:
            return True
        if plan.cut is Cut.REFUSE:
            reset_connection(self._transport)
            return True
        if plan.status == OK:
            return False
        headers = b""
        if plan.retry_after_seconds is not None:
            headers = b"retry-after: %g\r\n" % plan.retry_after_seconds
        self._respond(plan.status, error(plan.status, "simulated failure"), headers)
        return True

    def _stream(self, answer: Answer, plan: ReplyPlan) -> None:
        emission: Emission | DamagedEmission
        if plan.dialect:
            damage = malformed.DIALECTS.get(plan.dialect)
            if damage is None:
                raise DirectiveError(f"unknown stream sse:{plan.dialect}")
            emission = DamagedEmission(self._transport, damage(answer), self._stream_ended)
        else:
            emission = Emission(self._transport, answer, plan, self._stream_ended)
        self._emission = emission
        self._simulator.counters.open_streams += 1
        emission.start()

    def _stream_ended(self, emission: Emission | DamagedEmission) -> None:
        self._emission = None
        self._simulator.counters.tokens += emission.sent
        self._simulator.counters.open_streams -= 1
        self._next()

    def _respond_late(self, answer: Answer) -> None:
        self._delayed = None
        self._respond(OK, answer.body())
        self._next()

    def _respond(self, status: int, body: bytes, headers: bytes = b"") -> None:
        self._transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
            % (status, _REASONS.get(status, b"Simulated"), headers, len(body), body)
        )


def _models(created: int) -> bytes:
    model = {"id": "sim", "object": "model", "created": created, "owned_by": "simulator"}
    return msgspec.json.encode({"object": "list", "data": [model]})
