"""Sessions of before: in the archive and back, gone on from, looked through."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from meshwright.session.v1 import session_history_pb2, session_service_pb2
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import conversation as schemas
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import values
from meshwright_gateway.wire.conversation import (
    branch_session_request,
    message_view,
    session_view,
)


def session_history_router(peers: Peers) -> APIRouter:
    """Return the routes that move and copy sessions."""
    router = APIRouter(prefix=f"{API_PREFIX}/sessions", tags=["sessions"])

    @router.post("/{session_id}/archive")
    async def archive_session(session_id: IdPath) -> schemas.Session:
        """Move a session's messages to the archive. Whatever uses them brings them back."""
        answer = await peers.sessions.ArchiveSession(
            session_service_pb2.ArchiveSessionRequest(session_id=session_id)
        )
        return session_view(answer.session)

    @router.post("/{session_id}/restore")
    async def restore_session(session_id: IdPath) -> schemas.Session:
        """Bring a session back from the archive."""
        answer = await peers.sessions.RestoreSession(
            session_service_pb2.RestoreSessionRequest(session_id=session_id)
        )
        return session_view(answer.session)

    @router.post("/{session_id}/branch", status_code=201)
    async def branch_session(
        session_id: IdPath,
        body: schemas.SessionBranch,
        response: Response,
        idempotency_key: IdempotencyKey = "",
    ) -> schemas.Session:
        """Make a session that goes on behind a message of this one, with copies of those before."""
        answer = await peers.sessions.BranchSession(
            branch_session_request(session_id, body, idempotency_key)
        )
        response.headers["location"] = f"/api/v1/sessions/{answer.session.session_id}"
        return session_view(answer.session)

    return router


def messages_router(peers: Peers) -> APIRouter:
    """Return the route that looks through messages of all sessions."""
    router = APIRouter(prefix=f"{API_PREFIX}/messages", tags=["sessions"])

    @router.get("/search")
    async def search_messages(
        q: Annotated[
            str,
            Query(
                min_length=1,
                max_length=400,
                pattern=r"^[^\x00]*$",
                description="Words that are all in a message.",
            ),
        ],
        session_id: Annotated[
            str, Query(max_length=64, description="Only this session. Absent: all of yours.")
        ] = "",
        page_size: PageSize = None,
        page_token: PageToken = "",
    ) -> schemas.MessageList:
        """Your own messages that have all the words, newest first. Not those in the archive."""
        answer = await peers.sessions.SearchMessages(
            session_history_pb2.SearchMessagesRequest(
                query=q,
                session_id=session_id,
                page=values.page_request(page_size, page_token),
            )
        )
        return schemas.MessageList(
            messages=[message_view(message) for message in answer.messages],
            next_page_token=answer.page.next_page_token,
        )

    return router
