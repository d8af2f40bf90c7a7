"""Sessions, their messages and their turns."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from meshwright.chat.v1 import chat_service_pb2
from meshwright.session.v1 import session_service_pb2
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import conversation as schemas
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import values
from meshwright_gateway.wire.conversation import (
    create_session_request,
    message_view,
    session_view,
    turn_view,
    update_session_request,
)


def sessions_router(peers: Peers) -> APIRouter:
    """Return the routes about sessions."""
    router = APIRouter(prefix=f"{API_PREFIX}/sessions", tags=["sessions"])

    @router.post("", status_code=201)
    async def create_session(
        body: schemas.SessionCreate, response: Response, idempotency_key: IdempotencyKey = ""
    ) -> schemas.Session:
        """Create a session."""
        answer = await peers.sessions.CreateSession(create_session_request(body, idempotency_key))
        response.headers["location"] = f"/api/v1/sessions/{answer.session.session_id}"
        return session_view(answer.session)

    @router.get("")
    async def list_sessions(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.SessionList:
        """The caller's sessions, last used first."""
        answer = await peers.sessions.ListSessions(
            session_service_pb2.ListSessionsRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.SessionList(
            sessions=[session_view(session) for session in answer.sessions],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/{session_id}")
    async def get_session(session_id: IdPath) -> schemas.Session:
        """One session."""
        answer = await peers.sessions.GetSession(
            session_service_pb2.GetSessionRequest(session_id=session_id)
        )
        return session_view(answer.session)

    @router.patch("/{session_id}")
    async def update_session(session_id: IdPath, body: schemas.SessionUpdate) -> schemas.Session:
        """Change the fields that the body names."""
        answer = await peers.sessions.UpdateSession(update_session_request(session_id, body))
        return session_view(answer.session)

    @router.delete("/{session_id}", status_code=204)
    async def delete_session(session_id: IdPath) -> None:
        """Remove a session, its messages and its context. An absent one is removed already."""
        await peers.sessions.DeleteSession(
            session_service_pb2.DeleteSessionRequest(session_id=session_id)
        )

    @router.get("/{session_id}/messages")
    async def list_messages(
        session_id: IdPath,
        newest_first: Annotated[bool, Query()] = False,
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.MessageList:
        """Messages, oldest first unless asked otherwise."""
        answer = await peers.sessions.ListMessages(
            session_service_pb2.ListMessagesRequest(
                session_id=session_id,
                page=values.page_request(page_size, page_token),
                newest_first=newest_first,
            )
        )
        return schemas.MessageList(
            messages=[message_view(message) for message in answer.messages],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/{session_id}/turns")
    async def list_turns(
        session_id: IdPath, page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.TurnList:
        """Turns, newest first."""
        answer = await peers.chat.ListTurns(
            chat_service_pb2.ListTurnsRequest(
                session_id=session_id, page=values.page_request(page_size, page_token)
            )
        )
        return schemas.TurnList(
            turns=[turn_view(turn) for turn in answer.turns],
            next_page_token=answer.page.next_page_token,
        )

    return router


def turns_router(peers: Peers) -> APIRouter:
    """Return the routes about turns that answer in one piece."""
    router = APIRouter(prefix=f"{API_PREFIX}/turns", tags=["chat"])

    @router.get("/{turn_id}")
    async def get_turn(turn_id: IdPath) -> schemas.Turn:
        """One turn."""
        answer = await peers.chat.GetTurn(chat_service_pb2.GetTurnRequest(turn_id=turn_id))
        return turn_view(answer.turn)

    @router.put("/{turn_id}/rating")
    async def rate_turn(turn_id: IdPath, body: schemas.TurnRating) -> schemas.Turn:
        """Say what you think of a finished turn. The last rating counts, 0 takes it back."""
        answer = await peers.chat.RateTurn(
            chat_service_pb2.RateTurnRequest(
                turn_id=turn_id, rating=body.rating, comment=body.comment
            )
        )
        return turn_view(answer.turn)

    @router.post("/{turn_id}/cancel")
    async def cancel_turn(turn_id: IdPath) -> schemas.Turn:
        """Stop a turn. Answers when nothing more can start for it; a finished one stays."""
        answer = await peers.chat.CancelTurn(chat_service_pb2.CancelTurnRequest(turn_id=turn_id))
        return turn_view(answer.turn)

    return router
