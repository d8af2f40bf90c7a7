"""Turns as streams, without a framework: asked, answered again, followed."""

import asyncio
from contextlib import aclosing
from functools import partial
from typing import Final

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright_common.context import bind
from meshwright_common.errors import Cancelled, ServiceError, Unavailable
from meshwright_common.ids import parse_id
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.errors import work_failed
from meshwright_gateway.http import sse
from meshwright_gateway.http.cursors import cursor
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.presence import EventStream, LongAnswers, Presence
from meshwright_gateway.http.schemas.common import Citation
from meshwright_gateway.http.schemas.conversation import (
    ChatAnswer,
    ChatRequest,
    ChatWaiting,
    RegenerateRequest,
)
from meshwright_gateway.http.turn_feed import TurnFeed
from meshwright_gateway.http.validation import validated
from meshwright_gateway.peers import Peers
from meshwright_gateway.settings import GatewaySection
from meshwright_gateway.wire import values
from meshwright_gateway.wire.conversation import chat_request, waiting_view

_CANCEL_SECONDS: Final = 5.0
WAITING_LOOKS: Final = 50
WAITING_LOOK_SECONDS: Final = 0.2
"""A turn that asked a person waits a moment later, or goes on because the answer is there."""
_logger = get_logger(__name__)


class ChatRoutes:
    """Turns as streams, or as one answer."""

    def __init__(self, peers: Peers, answers: LongAnswers, settings: GatewaySection) -> None:
        self._chat = peers.chat
        self._answers = answers
        self._settings = settings

    async def chat(self, exchange: Exchange) -> None:
        """Start a turn; stream its events, or wait for its answer."""
        content = await exchange.read_json_object(
            self._settings.json_limit_bytes, self._settings.body_timeout_seconds
        )
        body = validated(ChatRequest, content)
        feed = TurnFeed(self._chat, start=chat_request(body, exchange.idempotency_key()))
        await self._run(exchange, feed, body.stream, body.on_disconnect == "cancel")

    async def regenerate(self, exchange: Exchange, turn_id: str) -> None:
        """Answer the question of a turn again; stream the new turn, or wait for its answer."""
        content = await exchange.read_json_object(
            self._settings.json_limit_bytes, self._settings.body_timeout_seconds
        )
        body = validated(RegenerateRequest, content)
        request = chat_service_pb2.RegenerateTurnRequest(
            turn_id=parse_id(turn_id, "turn_id"), request_id=exchange.idempotency_key()
        )
        feed = TurnFeed(self._chat, again=request)
        await self._run(exchange, feed, body.stream, body.on_disconnect == "cancel")

    async def _run(
        self, exchange: Exchange, feed: TurnFeed, streams: bool | None, cancels: bool
    ) -> None:
        accepted = exchange.headers.get(b"accept", b"")
        with bind(exchange.call_context(None)):
            presence: Presence
            if streams is not False or b"text/event-stream" in accepted:
                presence = await self._stream(exchange, feed, cancels)
            else:
                presence = await self._answer(exchange, feed, cancels)
            if presence.left and cancels and feed.turn_id:
                await self._cancel(feed.turn_id)

    async def events(self, exchange: Exchange, turn_id: str) -> None:
        """Follow a turn after the event that the client saw last."""
        turn_id = parse_id(turn_id, "turn_id")
        feed = TurnFeed(self._chat, turn_id=turn_id, after_sequence=cursor(exchange, turn_id))
        frames = sse.TurnFrames(turn_id)
        stream = event_stream(exchange, self._answers, opens_early=True)
        with bind(exchange.call_context(None)):
            async with stream, aclosing(feed.events()) as events:
                async for event in events:
                    await _send(stream, frames, event)

    async def _stream(self, exchange: Exchange, feed: TurnFeed, cancels: bool) -> Presence:
        stream = event_stream(exchange, self._answers)
        # What shall be cancelled must be known first: until then nobody leaves.
        stream.deferred = cancels
        async with stream, aclosing(feed.events()) as events:
            first = await anext(events, None)
            if first is None:
                raise Unavailable("the turn gave no event")
            location = f"/api/v1/turns/{first.turn_id}/events"
            stream.headers.append((b"content-location", location.encode()))
            stream.raise_if_left()
            frames = sse.TurnFrames(first.turn_id)
            await _send(stream, frames, first)
            async for event in events:
                await _send(stream, frames, event)
        return stream

    async def _answer(self, exchange: Exchange, feed: TurnFeed, cancels: bool) -> Presence:
        presence = Presence(exchange, self._answers)
        presence.deferred = cancels
        collected = _Collected()
        waiting: ChatWaiting | None = None
        async with presence, aclosing(feed.events()) as events:
            while (event := await anext(events, None)) is not None:
                collected.add(event)
                if presence.deferred:
                    presence.raise_if_left()
                if event.HasField("interrupt"):
                    waiting = await self._waiting(feed.turn_id)
                    if waiting is not None:
                        break
        if not presence.left:
            if waiting is None:
                await exchange.respond_json(200, collected.answer().model_dump(mode="json"))
            else:
                # Nobody holds a request for days: the client follows the turn when it is answered.
                await exchange.respond_json(202, waiting.model_dump(mode="json"))
        return presence

    async def _waiting(self, turn_id: str) -> ChatWaiting | None:
        """Return the turn when it comes to wait for a person; None when it does not."""
        request = chat_service_pb2.GetTurnRequest(turn_id=turn_id)
        for _ in range(WAITING_LOOKS):
            turn = (await self._chat.GetTurn(request)).turn
            if turn.state == turn_pb2.TURN_STATE_WAITING:
                return waiting_view(turn)
            if turn.state != turn_pb2.TURN_STATE_RUNNING:
                return None
            await asyncio.sleep(WAITING_LOOK_SECONDS)
        return None

    async def _cancel(self, turn_id: str) -> None:
        request = chat_service_pb2.CancelTurnRequest(turn_id=turn_id)
        try:
            await self._chat.CancelTurn(request, timeout=_CANCEL_SECONDS)
        except ServiceError as error:
            _logger.warning("cancel_failed", turn_id=turn_id, reason=error.reason)


async def _send(stream: EventStream, frames: sse.TurnFrames, event: turn_pb2.TurnEvent) -> None:
    """Send an event; text waits for more of its kind while the client does not keep up."""
    kind = event.WhichOneof("event")
    waits = kind in sse.TURN_WAITS
    if waits:
        # It may take days: it keeps no place of its user's, and no shutdown waiting.
        stream.exchange.leave_place()
    if stream.endless != waits:
        stream.endless = waits
    if kind in sse.TEXT_STARTS:
        text = getattr(event, kind).text
        await stream.send_text(kind, text, partial(frames.text, kind, event.sequence))
    elif kind in sse.TURN_ENDS:
        await stream.send_last(frames.frame(event))
    else:
        await stream.send(frames.frame(event))


def event_stream(
    exchange: Exchange, answers: LongAnswers, *, opens_early: bool = False
) -> EventStream:
    """Return a stream of the native API, whose errors are problems."""
    return EventStream(
        exchange,
        answers,
        headers=sse.STREAM_HEADERS,
        preamble=sse.PREAMBLE,
        error_frame=partial(
            sse.error_frame, request_id=exchange.request_id, instance=exchange.path
        ),
        opens_early=opens_early,
    )


class _Collected:
    """What the events of a turn say, for an answer in one piece."""

    def __init__(self) -> None:
        self._turn_id = ""
        self._started = turn_pb2.TurnStarted()
        self._citations: list[Citation] = []
        self._end: turn_pb2.TurnEvent | None = None

    def add(self, event: turn_pb2.TurnEvent) -> None:
        """Take the next event."""
        self._turn_id = event.turn_id
        kind = event.WhichOneof("event")
        if kind == "started":
            self._started = event.started
        elif kind == "citation":
            self._citations.append(values.citation_from(event.citation))
        elif kind == "restarted":
            # The new attempt cites anew.
            self._citations.clear()
        elif kind in sse.TURN_ENDS:
            self._end = event

    def answer(self) -> ChatAnswer:
        """Return the answer. Raises: ServiceError when the turn ended without one."""
        end = self._end
        if end is None:
            raise Unavailable("the turn ended without an event", turn_id=self._turn_id)
        if end.HasField("failed"):
            raise work_failed(end.failed.reason, end.failed.message, turn_id=self._turn_id)
        if end.HasField("cancelled"):
            raise Cancelled("the turn was cancelled", turn_id=self._turn_id)
        done = end.completed
        return ChatAnswer(
            turn_id=self._turn_id,
            session_id=self._started.session_id,
            message_id=done.message_id,
            agent=self._started.agent,
            answer=done.answer,
            citations=self._citations,
            usage=values.usage_from(done.usage),
            context_version=done.context_version,
        )
