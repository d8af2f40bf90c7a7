"""SessionService."""

from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceServicer
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_session.domain.branches import Branches
from meshwright_session.domain.message_search import MessageSearch
from meshwright_session.domain.models import Owner
from meshwright_session.domain.sessions import Conversations
from meshwright_session.servicers import Context
from meshwright_session.wire import messages, sessions, values


class SessionServicer(SessionServiceServicer):
    """Serves SessionService but what the protos mark as not yet served."""

    def __init__(
        self, conversations: Conversations, branches: Branches, search: MessageSearch
    ) -> None:
        self._conversations = conversations
        self._branches = branches
        self._search = search

    async def CreateSession(
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """Create a session."""
        owner = Owner.of(principal())
        draft = sessions.draft(request.session)
        repeatable = values.request_of(request, request.request_id, owner.user_id)
        session = await self._conversations.create(owner, draft, repeatable)
        return pb.CreateSessionResponse(session=sessions.session_message(session))

    async def GetSession(
        self, request: pb.GetSessionRequest, context: Context
    ) -> pb.GetSessionResponse:
        """Return one session."""
        owner = Owner.of(principal())
        session = await self._conversations.get(owner, _session_id(request.session_id))
        return pb.GetSessionResponse(session=sessions.session_message(session))

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        """Return a page of the caller's sessions."""
        owner = Owner.of(principal())
        page = await self._conversations.list(owner, values.page_request(request.page))
        return pb.ListSessionsResponse(
            sessions=sessions.session_messages(page.rows), page=values.page_info(page.next_token)
        )

    async def UpdateSession(
        self, request: pb.UpdateSessionRequest, context: Context
    ) -> pb.UpdateSessionResponse:
        """Change fields of a session."""
        owner = Owner.of(principal())
        session_id = parse_id(request.session.session_id, "session.session_id")
        revision = sessions.revision(request.session.etag)
        session = await self._conversations.update(
            owner, session_id, sessions.change(request), revision
        )
        return pb.UpdateSessionResponse(session=sessions.session_message(session))

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, context: Context
    ) -> pb.DeleteSessionResponse:
        """Remove a session."""
        owner = Owner.of(principal())
        await self._conversations.delete(owner, _session_id(request.session_id))
        return pb.DeleteSessionResponse()

    async def ArchiveSession(
        self, request: pb.ArchiveSessionRequest, context: Context
    ) -> pb.ArchiveSessionResponse:
        """Move a session to the archive."""
        owner = Owner.of(principal())
        session = await self._conversations.put_away(owner, _session_id(request.session_id))
        return pb.ArchiveSessionResponse(session=sessions.session_message(session))

    async def RestoreSession(
        self, request: pb.RestoreSessionRequest, context: Context
    ) -> pb.RestoreSessionResponse:
        """Bring a session back from the archive."""
        owner = Owner.of(principal())
        session = await self._conversations.bring_back(owner, _session_id(request.session_id))
        return pb.RestoreSessionResponse(session=sessions.session_message(session))

    async def BranchSession(
        self, request: pb.BranchSessionRequest, context: Context
    ) -> pb.BranchSessionResponse:
        """Make a session that goes on from a message of another one."""
        owner = Owner.of(principal())
        point = sessions.branch_point(request)
        repeatable = values.request_of(request, request.request_id, owner.user_id)
        session = await self._branches.make(owner, point, repeatable)
        return pb.BranchSessionResponse(session=sessions.session_message(session))

    async def SearchMessages(
        self, request: pb.SearchMessagesRequest, context: Context
    ) -> pb.SearchMessagesResponse:
        """Find messages by their words."""
        owner = Owner.of(principal())
        page = await self._search.find(
            owner, messages.query(request), values.page_request(request.page)
        )
        return pb.SearchMessagesResponse(
            messages=messages.stored_messages(page.rows), page=values.page_info(page.next_token)
        )

    async def AppendMessages(
        self, request: pb.AppendMessagesRequest, context: Context
    ) -> pb.AppendMessagesResponse:
        """Append messages."""
        owner = Owner.of(principal())
        stored = await self._conversations.append(
            owner,
            _session_id(request.session_id),
            messages.appended(request),
            turn_id=messages.turn_id(request.turn_id),
            request=values.request_of(request, request.request_id, owner.user_id),
        )
        return pb.AppendMessagesResponse(messages=messages.stored_messages(stored))

    async def CommitTurn(
        self, request: pb.CommitTurnRequest, context: Context
    ) -> pb.CommitTurnResponse:
        """Store what a turn produced."""
        owner = Owner.of(principal())
        committed = await self._conversations.commit_turn(
            owner,
            _session_id(request.session_id),
            parse_id(request.turn_id, "turn_id"),
            messages.of_turn(request),
            messages.context_changes(request),
        )
        return pb.CommitTurnResponse(
            message_id=committed.message_id, context_version=committed.context_version
        )

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        """Return a page of messages."""
        owner = Owner.of(principal())
        page = await self._conversations.messages(
            owner,
            _session_id(request.session_id),
            values.page_request(request.page),
            newest_first=request.newest_first,
        )
        return pb.ListMessagesResponse(
            messages=messages.stored_messages(page.rows), page=values.page_info(page.next_token)
        )

    async def GetContext(
        self, request: pb.GetContextRequest, context: Context
    ) -> pb.GetContextResponse:
        """Return the context."""
        owner = Owner.of(principal())
        found = await self._conversations.context(owner, _session_id(request.session_id))
        return pb.GetContextResponse(context=sessions.context_message(found))

    async def CompareAndSetContext(
        self, request: pb.CompareAndSetContextRequest, context: Context
    ) -> pb.CompareAndSetContextResponse:
        """Write the context's next version."""
        owner = Owner.of(principal())
        written = await self._conversations.compare_and_set_context(
            owner,
            _session_id(request.session_id),
            sessions.expected_version(request),
            sessions.context_data(request),
        )
        return pb.CompareAndSetContextResponse(context=sessions.context_message(written))


def _session_id(value: str) -> str:
    return parse_id(value, "session_id")
