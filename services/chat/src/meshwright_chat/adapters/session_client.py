"""Sessions over the session service's stub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from meshwright.session.v1 import session_history_pb2, session_pb2, session_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_chat.domain.models import AgentResult, Usage
from meshwright_chat.domain.ports import Committed, SessionFacts
from meshwright_chat.wire import turns

if TYPE_CHECKING:
    from meshwright.session.v1.session_service_pb2_grpc import SessionServiceAsyncStub

HISTORY_MESSAGES: Final = 40
"""Latest messages given to the agent, the question included."""


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

    async def begin(self, session_id: str, turn_id: str, question: str) -> Sequence[object]:
        response = await self._stub.BeginTurn(
            session_service_pb2.BeginTurnRequest(
                session_id=session_id,
                turn_id=turn_id,
                message=_said(question),
                max_messages=HISTORY_MESSAGES,
            )
        )
        return _from_a_question([stored.message for stored in response.messages])

    async def commit(
        self, session_id: str, turn_id: str, question: str, result: AgentResult
    ) -> Committed:
        response = await self._stub.CommitTurn(
            session_service_pb2.CommitTurnRequest(
                session_id=session_id,
                turn_id=turn_id,
                messages=cast("Sequence[message_pb2.Message]", result.added_messages),
                citations=[turns.citation_message(citation) for citation in result.citations],
                usage=turns.usage_message(result.usage),
                question=_said(question),
            )
        )
        return Committed(response.message_id, response.context_version, response.summary_due)

    async def keep(
        self, session_id: str, turn_id: str, question: str, said: str, usage: Usage
    ) -> Committed:
        part = message_pb2.ContentPart(text=said)
        response = await self._stub.CommitTurn(
            session_service_pb2.CommitTurnRequest(
                session_id=session_id,
                turn_id=turn_id,
                messages=[message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[part])],
                usage=turns.usage_message(usage),
                question=_said(question),
                interrupted=True,
            )
        )
        return Committed(response.message_id, response.context_version, response.summary_due)

    async def withdraw(self, session_id: str, turn_id: str, *, forget: bool) -> None:
        await self._stub.WithdrawTurn(
            session_history_pb2.WithdrawTurnRequest(
                session_id=session_id, turn_id=turn_id, forget=forget
            )
        )


def _said(question: str) -> message_pb2.Message:
    part = message_pb2.ContentPart(text=question)
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])


def _from_a_question(messages: list[message_pb2.Message]) -> list[message_pb2.Message]:
    # A window that begins inside a tool exchange is refused by providers.
    for index, message in enumerate(messages):
        if message.role == message_pb2.ROLE_USER:
            return messages[index:]
    return messages


def _facts(session: session_pb2.Session) -> SessionFacts:
    return SessionFacts(
        session.session_id,
        session.agent,
        tuple(session.knowledge_base_ids),
        session.summarised_sequence,
    )
