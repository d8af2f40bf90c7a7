"""Sessions over the session service's stub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from meshwright.session.v1 import session_pb2, session_service_pb2
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_chat.domain.models import AgentResult
from meshwright_chat.domain.ports import Committed, SessionFacts
from meshwright_chat.wire import turns

if TYPE_CHECKING:
    from meshwright.session.v1.session_service_pb2_grpc import SessionServiceAsyncStub

HISTORY_MESSAGES: Final = 40
"""Latest messages given to the agent, the question included."""

MAX_PAGE_SIZE: Final = 200


class SessionClient:
    """Sessions: see the port. History is a list of `types.v1.Message`."""

    def __init__(self, stub: SessionServiceAsyncStub) -> None:
        self._stub = stub

    async def find(self, session_id: str) -> SessionFacts:
        response = await self._stub.GetSession(
            session_service_pb2.GetSessionRequest(session_id=session_id)
        )
        return _facts(response.session)

    async def create(self, title: str, request_id: str) -> SessionFacts:
        response = await self._stub.CreateSession(
            session_service_pb2.CreateSessionRequest(
                session=session_pb2.Session(title=title), request_id=request_id
            )
        )
        return _facts(response.session)

    async def append_question(self, session_id: str, turn_id: str, question: str) -> None:
        message = message_pb2.Message(
            role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=question)]
        )
        await self._stub.AppendMessages(
            session_service_pb2.AppendMessagesRequest(
                session_id=session_id, messages=[message], request_id=turn_id, turn_id=turn_id
            )
        )

    async def history(self, session_id: str, turn_id: str) -> Sequence[object]:
        stored = await self._newest(session_id, HISTORY_MESSAGES)
        later = _behind_the_question(stored, turn_id)
        if later:
            # Taken over after the answer was stored: the same window as the first time.
            wanted = min(HISTORY_MESSAGES + later, MAX_PAGE_SIZE)
            stored = (await self._newest(session_id, wanted))[later:]
        return _from_a_question([message.message for message in reversed(stored)])

    async def _newest(self, session_id: str, count: int) -> Sequence[session_pb2.StoredMessage]:
        response = await self._stub.ListMessages(
            session_service_pb2.ListMessagesRequest(
                session_id=session_id,
                page=page_pb2.PageRequest(page_size=count),
                newest_first=True,
            )
        )
        return response.messages

    async def commit(self, session_id: str, turn_id: str, result: AgentResult) -> Committed:
        response = await self._stub.CommitTurn(
            session_service_pb2.CommitTurnRequest(
                session_id=session_id,
                turn_id=turn_id,
                messages=cast("Sequence[message_pb2.Message]", result.added_messages),
                citations=[turns.citation_message(citation) for citation in result.citations],
                usage=turns.usage_message(result.usage),
            )
        )
        return Committed(response.message_id, response.context_version)


def _behind_the_question(newest_first: Sequence[session_pb2.StoredMessage], turn_id: str) -> int:
    for index, stored in enumerate(newest_first):
        if stored.turn_id == turn_id and stored.message.role == message_pb2.ROLE_USER:
            return index
    return 0


def _from_a_question(messages: list[message_pb2.Message]) -> list[message_pb2.Message]:
    # A window that begins inside a tool exchange is refused by providers.
    for index, message in enumerate(messages):
        if message.role == message_pb2.ROLE_USER:
            return messages[index:]
    return messages


def _facts(session: session_pb2.Session) -> SessionFacts:
    return SessionFacts(session.session_id, session.agent, tuple(session.knowledge_base_ids))
