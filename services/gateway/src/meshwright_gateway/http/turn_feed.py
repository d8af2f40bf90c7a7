"""The events of a turn, from whichever call happens to carry them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright_common.errors import DeadlineExceeded, ServiceError, Unavailable
from meshwright_common.rpc.stream import open_stream
from meshwright_common.telemetry import tracing
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.http.sse import TURN_ENDS, TURN_WAITS
from meshwright_gateway.metrics import (
    TURN_FIRST_TOKEN_SECONDS,
    TURN_STREAM_RESUMES,
    TURN_STREAMS,
)

if TYPE_CHECKING:
    from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceAsyncStub

PAUSES_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Between attempts to follow a turn that gives no event: together as long as a restart takes."""
_HEALTHY_SECONDS: Final = 10.0
"""A call that lived so long did not fail: it met its deadline."""

_SPEAKS: Final = frozenset({"message_delta", "reasoning_delta"})
_IS_ALL: Final = TURN_ENDS | TURN_WAITS

_logger = get_logger(__name__)


class TurnFeed:
    """Follows one turn to its end over as many calls as it takes.

    A call may end early (its deadline, a restarted process); the next one goes on after the last
    event, so a reader sees every sequence once. `turn_id` is empty until the turn is known: one
    that `start` begins, or that answers `again`.
    """

    def __init__(
        self,
        chat: "ChatServiceAsyncStub",
        *,
        start: chat_service_pb2.StreamChatRequest | None = None,
        again: chat_service_pb2.RegenerateTurnRequest | None = None,
        turn_id: str = "",
        after_sequence: int = 0,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self._chat = chat
        self._start = start
        self._again = again
        self.turn_id = turn_id
        self._sequence = after_sequence
        self._pauses_seconds = pauses_seconds

    async def events(self) -> AsyncGenerator[turn_pb2.TurnEvent, None]:
        """Yield the events in order, to the last one; none when the turn ended before.

        Raises: whatever the chat service refuses the first call with; Unavailable or
        DeadlineExceeded when the turn cannot be followed any longer, which does not end the turn.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        is_silent = self._start is not None or self._again is not None
        if not is_silent:
            TURN_STREAM_RESUMES.labels("client").inc()
        end = "left"
        told = False
        try:
            async with aclosing(self._followed()) as events:
                async for event in events:
                    told = True
                    kind = event.WhichOneof("event")
                    if is_silent and kind in _SPEAKS:
                        TURN_FIRST_TOKEN_SECONDS.observe(loop.time() - asked_at, tracing.exemplar())
                        is_silent = False
                    # Whoever is told that a turn waits for a person has been told all there is.
                    end = "whole" if kind in _IS_ALL else "left"
                    yield event
            end = "whole"
        except ServiceError as error:
            is_away = isinstance(error, DeadlineExceeded | Unavailable) and self.turn_id
            end = "broken" if told or is_away else "refused"
            raise
        finally:
            TURN_STREAMS.labels(end).inc()

    async def _followed(self) -> AsyncGenerator[turn_pb2.TurnEvent, None]:
        failures = 0
        while True:
            loop = asyncio.get_running_loop()
            began, before = loop.time(), self._sequence
            error: ServiceError | None = None
            try:
                async with open_stream(self._call()) as responses:
                    async for response in responses:
                        event = response.event
                        if event.sequence <= self._sequence:
                            continue
                        self.turn_id = event.turn_id
                        self._sequence = event.sequence
                        yield event
                        if event.WhichOneof("event") in TURN_ENDS:
                            return
            except (DeadlineExceeded, Unavailable) as caught:
                if not self.turn_id:
                    raise
                error = caught
            if error is None and self._sequence == before:
                # A call that ended well without an event: nothing is left.
                return
            if self._sequence > before or loop.time() - began > _HEALTHY_SECONDS:
                failures = 0
            if failures == len(self._pauses_seconds):
                raise error or Unavailable("the turn cannot be followed at the moment")
            _logger.info("turn_followed_again", turn_id=self.turn_id, after=self._sequence)
            TURN_STREAM_RESUMES.labels("server").inc()
            await asyncio.sleep(self._pauses_seconds[failures])
            failures += 1

    def _call(self) -> "grpc.aio.UnaryStreamCall[Any, Any]":
        if self._start is not None and not self.turn_id:
            return self._chat.StreamChat(self._start)
        if self._again is not None and not self.turn_id:
            return self._chat.RegenerateTurn(self._again)
        return self._chat.SubscribeTurn(
            chat_service_pb2.SubscribeTurnRequest(
                turn_id=self.turn_id, after_sequence=self._sequence
            )
        )
