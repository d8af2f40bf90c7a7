"""ChatService: protobuf in, domain call, protobuf out."""

from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

import grpc.aio

from meshwright.chat.v1 import chat_service_pb2
from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceServicer
from meshwright.types.v1 import page_pb2
from meshwright_chat.domain.turns import TurnDesk
from meshwright_chat.wire import events, turns
from meshwright_common.context import principal
from meshwright_common.errors import invalid
from meshwright_common.ids import parse_id

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200


Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives each method; unused here: the interceptors bind what matters."""


class ChatServicer(ChatServiceServicer):
    """Serves ChatService."""

    def __init__(self, desk: TurnDesk) -> None:
        self._desk = desk

    async def StreamChat(
        self, request: chat_service_pb2.StreamChatRequest, context: Context
    ) -> AsyncIterator[chat_service_pb2.StreamChatResponse]:
        """Start a turn and follow it."""
        caller = principal()
        turn = await self._desk.start(
            caller, turns.request_from(request), turns.policy_from(request)
        )
        async for entry in self._desk.follow_turn(turn):
            yield chat_service_pb2.StreamChatResponse(event=events.event_message(entry))

    async def SubscribeTurn(
        self, request: chat_service_pb2.SubscribeTurnRequest, context: Context
    ) -> AsyncIterator[chat_service_pb2.SubscribeTurnResponse]:
        """Follow a turn from a position."""
        if request.after_sequence < 0:
            raise invalid("after_sequence", "must not be negative")
        turn_id = parse_id(request.turn_id, "turn_id")
        async for entry in self._desk.follow(principal(), turn_id, request.after_sequence):
            yield chat_service_pb2.SubscribeTurnResponse(event=events.event_message(entry))

    async def CancelTurn(
        self, request: chat_service_pb2.CancelTurnRequest, context: Context
    ) -> chat_service_pb2.CancelTurnResponse:
        """Stop a turn."""
        turn = await self._desk.cancel(principal(), parse_id(request.turn_id, "turn_id"))
        return chat_service_pb2.CancelTurnResponse(turn=turns.turn_message(turn))

    async def RegenerateTurn(
        self, request: chat_service_pb2.RegenerateTurnRequest, context: Context
    ) -> AsyncIterator[chat_service_pb2.RegenerateTurnResponse]:
        """Answer a question again and follow the new turn."""
        turn = await self._desk.regenerate(
            principal(), parse_id(request.turn_id, "turn_id"), turns.request_id_from(request)
        )
        async for entry in self._desk.follow_turn(turn):
            yield chat_service_pb2.RegenerateTurnResponse(event=events.event_message(entry))

    async def RateTurn(
        self, request: chat_service_pb2.RateTurnRequest, context: Context
    ) -> chat_service_pb2.RateTurnResponse:
        """Store what the user thinks of a turn."""
        turn_id = parse_id(request.turn_id, "turn_id")
        turn = await self._desk.rate(principal(), turn_id, *turns.rating_from(request))
        return chat_service_pb2.RateTurnResponse(turn=turns.turn_message(turn))

    async def GetTurn(
        self, request: chat_service_pb2.GetTurnRequest, context: Context
    ) -> chat_service_pb2.GetTurnResponse:
        """Read one turn."""
        turn = await self._desk.get(principal(), parse_id(request.turn_id, "turn_id"))
        return chat_service_pb2.GetTurnResponse(turn=turns.turn_message(turn))

    async def CountRunningTurns(
        self, request: chat_service_pb2.CountRunningTurnsRequest, context: Context
    ) -> chat_service_pb2.CountRunningTurnsResponse:
        """Count the running turns of the caller's tenant."""
        running = await self._desk.count_running(principal().tenant_id)
        return chat_service_pb2.CountRunningTurnsResponse(running_turns=running)

    async def ListTurns(
        self, request: chat_service_pb2.ListTurnsRequest, context: Context
    ) -> chat_service_pb2.ListTurnsResponse:
        """List a session's turns; the page token is the last turn seen."""
        size = request.page.page_size or DEFAULT_PAGE_SIZE
        if not 1 <= size <= MAX_PAGE_SIZE:
            raise invalid("page.page_size", f"must be 1 to {MAX_PAGE_SIZE}")
        token = request.page.page_token
        found = await self._desk.list_of_session(
            principal(),
            parse_id(request.session_id, "session_id"),
            before=parse_id(token, "page.page_token") if token else "",
            limit=size + 1,
        )
        more = found[size - 1].turn_id if len(found) > size else ""
        return chat_service_pb2.ListTurnsResponse(
            turns=[turns.turn_message(turn) for turn in found[:size]],
            page=page_pb2.PageInfo(next_page_token=more),
        )
