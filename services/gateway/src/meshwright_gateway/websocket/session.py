"""A socket from its opening to its close: many conversations, each at its own pace."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from websockets.frames import CloseCode

from meshwright_common.context import bind
from meshwright_common.errors import Internal, ServiceError, Unavailable
from meshwright_common.rpc.status import INTERNAL_TEXT
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.errors import (
    ClientGone,
    RateLimited,
    TooManyConversations,
    misshapen,
)
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.presence import LongAnswers, Presence
from meshwright_gateway.http.validation import validated
from meshwright_gateway.websocket import messages
from meshwright_gateway.websocket.admission import Admission
from meshwright_gateway.websocket.conversation import Conversation
from meshwright_gateway.websocket.streams import Rest, Streams
from meshwright_gateway.websocket.wire import SocketWire

Work = Callable[[Conversation, Rest, str], Awaitable[None]]
_MOST_REASON: Final = 120
"""Bytes of the text of a close."""
_logger = get_logger(__name__)


class SocketSession(Presence):
    """Runs the conversations of a socket for as long as it is open, its client there and its key
    good. A shutdown does not wait for them: their clients learn where to go on.
    """

    def __init__(
        self,
        exchange: Exchange,
        answers: LongAnswers,
        wire: SocketWire,
        streams: Streams,
        admission: Admission,
        *,
        most_conversations: int,
    ) -> None:
        super().__init__(exchange, answers)
        self.endless = True
        self._wire = wire
        self._admission = admission
        self._most = most_conversations
        self._open: dict[str, Conversation] = {}
        self._works: dict[str, Work] = {
            "chat": streams.chat,
            "task": streams.task,
            "resume": streams.resume,
            "notifications": streams.notifications,
            "answer": streams.answer,
            "cancel": streams.cancel,
        }

    async def run(self) -> None:
        """Take messages until the socket closes."""
        try:
            with bind(self.exchange.call_context(None)):
                async with self:
                    async for message in self._wire.messages():
                        await self._take(message)
        finally:
            await self._stop()

    async def _take(self, message: bytes) -> None:
        """Do what a message says. What is wrong with it is answered, and ends nothing."""
        conversation_id: str | None = None
        try:
            content, conversation_id = messages.read(message)
            envelope, rest = messages.split(content)
            work = self._works.get(envelope.type)
            if work is not None:
                self._begin(envelope, rest, work)
                return
            await self._in_time()
            await self._at_once(envelope, rest)
        except ServiceError as error:
            await self._in_time()
            known = None if conversation_id in self._open else conversation_id
            await self._wire.send(messages.error_message(known, error, self.exchange))

    async def _at_once(self, envelope: messages.Envelope, rest: Rest) -> None:
        conversation = self._open.get(envelope.id)
        if envelope.type == "ack":
            ack = validated(messages.Ack, rest)
            # One that has ended meanwhile needs none.
            if conversation is not None:
                conversation.acknowledge(ack.sequence)
            return
        validated(messages.Empty, rest)
        if envelope.type == "ping":
            await self._wire.send(messages.pong_message(envelope.id or None))
        elif conversation is not None and conversation.work is not None:
            conversation.work.cancel()
            await asyncio.wait({conversation.work})
            await self._wire.send(messages.end_message(envelope.id))

    async def _in_time(self) -> None:
        """Count a message that makes no work; who sends very many of them is read more slowly."""
        try:
            await self._admission.light()
        except RateLimited as refusal:
            await asyncio.sleep(refusal.retry_after_seconds or 1.0)

    def _begin(self, envelope: messages.Envelope, rest: Rest, work: Work) -> None:
        if envelope.id in self._open:
            raise misshapen("id", "is that of a conversation which has not ended")
        if len(self._open) >= self._most:
            raise TooManyConversations(conversations=str(self._most))
        conversation = Conversation(envelope.id, envelope.window)
        self._open[envelope.id] = conversation
        # house: naked-task: `_stop` ends and awaits it
        conversation.work = asyncio.create_task(
            self._converse(conversation, work, rest, envelope.idempotency_key or "")
        )

    async def _converse(self, conversation: Conversation, work: Work, rest: Rest, key: str) -> None:
        try:
            try:
                await work(conversation, rest, key)
            except ServiceError as error:
                await self._tell(conversation, error)
            except ClientGone:
                raise
            # house: broad-except: the outermost frame of a conversation, of which others are left
            except Exception:
                _logger.exception("conversation_failed", request_id=self.exchange.request_id)
                await self._tell(conversation, Internal(INTERNAL_TEXT))
        except ClientGone:
            # The socket closes; what was followed goes on.
            return
        finally:
            del self._open[conversation.id]

    async def _tell(self, conversation: Conversation, error: ServiceError) -> None:
        await self._wire.send(messages.error_message(conversation.id, error, self.exchange))

    async def _stop(self) -> None:
        works = {one.work for one in self._open.values() if one.work is not None}
        for work in works:
            work.cancel()
        if works:
            await asyncio.wait(works)

    async def beat(self, now: float, heartbeat_seconds: float) -> None:
        self._wire.beat(now)
        if not self._wire.is_open:
            self.interrupt()

    async def fail(self, error: ServiceError) -> None:
        """Say why all ends now, and for each conversation where to go on."""
        unfinished = tuple(self._open.values())
        await self._stop()
        leaving = isinstance(error, Unavailable)
        try:
            for one in unfinished:
                again = one.again() if leaving else None
                self._wire.send_now(
                    messages.error_message(one.id, error, self.exchange)
                    if again is None
                    else orjson.dumps(again)
                )
            if not leaving:
                self._wire.send_now(messages.error_message(None, error, self.exchange))
        except ClientGone:
            return
        code = CloseCode.SERVICE_RESTART if leaving else CloseCode.POLICY_VIOLATION
        reason = f"{error.reason}: {error}".encode("ascii", "replace")
        self._wire.close(code, reason[:_MOST_REASON].decode())

    async def end(self) -> None:
        """The client closed the socket."""
