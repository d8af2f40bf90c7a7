"""SessionService."""

import asyncio

from meshwright.session.v1 import context_snapshot_pb2 as snapshots_pb
from meshwright.session.v1 import session_history_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceServicer
from meshwright_common.context import principal
from meshwright_common.ids import parse_id
from meshwright_session.domain.branches import Branches
from meshwright_session.domain.contexts import Contexts
from meshwright_session.domain.message_search import MessageSearch
from meshwright_session.domain.models import Owner
from meshwright_session.domain.sessions import Conversations
from meshwright_session.domain.turns import Turns
from meshwright_session.domain.withdrawals import Withdrawal, Withdrawals
from meshwright_session.servicers import Context
from meshwright_session.wire import contexts, messages, sessions, values


class SessionServicer(SessionServiceServicer):
    """Serves SessionService but what the protos mark as not yet served."""

    def __init__(
        self,
        conversations: Conversations,
        branches: Branches,
        search: MessageSearch,
        turns: Turns,
        withdrawals: Withdrawals,
        contexts: Contexts,
    ) -> None:
        self._conversations = conversations
        self._turns = turns
        self._withdrawals = withdrawals
        self._contexts = contexts
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
        self, request: session_history_pb2.BranchSessionRequest, context: Context
    ) -> session_history_pb2.BranchSessionResponse:
        """Make a session that goes on from a message of another one."""
        owner = Owner.of(principal())
        point = sessions.branch_point(request)
        repeatable = values.request_of(request, request.request_id, owner.user_id)
        session = await self._branches.make(owner, point, repeatable)
        return session_history_pb2.BranchSessionResponse(session=sessions.session_message(session))

    async def SearchMessages(
        self, request: session_history_pb2.SearchMessagesRequest, context: Context
    ) -> session_history_pb2.SearchMessagesResponse:
        """Find messages by their words."""
        owner = Owner.of(principal())
        page = await self._search.find(
            owner, messages.query(request), values.page_request(request.page)
        )
        return session_history_pb2.SearchMessagesResponse(
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

    async def BeginTurn(
        self, request: pb.BeginTurnRequest, context: Context
    ) -> pb.BeginTurnResponse:
        """Store a turn's question; return what its agent reads."""
        owner = Owner.of(principal())
        opening = await self._turns.begin(
            owner,
            _session_id(request.session_id),
            parse_id(request.turn_id, "turn_id"),
            messages.of_user(request.message, "message"),
            messages.most_messages(request),
        )
        return pb.BeginTurnResponse(
            messages=messages.stored_messages(opening.messages),
            context=contexts.context_message(opening.context),
        )

    async def CommitTurn(
        self, request: pb.CommitTurnRequest, context: Context
    ) -> pb.CommitTurnResponse:
        """Store what a turn produced."""
        owner = Owner.of(principal())
        asked = request.HasField("question")
        committed = await self._turns.commit(
            owner,
            _session_id(request.session_id),
            parse_id(request.turn_id, "turn_id"),
            messages.of_turn(request),
            messages.context_changes(request),
            messages.of_user(request.question, "question") if asked else None,
        )
        return pb.CommitTurnResponse(
            message_id=committed.message_id,
            context_version=committed.context_version,
            summary_due=committed.summary_due,
        )

    async def WithdrawTurn(
        self, request: session_history_pb2.WithdrawTurnRequest, context: Context
    ) -> session_history_pb2.WithdrawTurnResponse:
        """Take a turn out of the session."""
        wanted = Withdrawal(
            _session_id(request.session_id), parse_id(request.turn_id, "turn_id"), request.forget
        )
        removed = await self._withdrawals.withdraw(Owner.of(principal()), wanted)
        return session_history_pb2.WithdrawTurnResponse(removed_messages=removed)

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
        found = await self._contexts.get(owner, _session_id(request.session_id))
        return pb.GetContextResponse(context=contexts.context_message(found))

    async def CompareAndSetContext(
        self, request: pb.CompareAndSetContextRequest, context: Context
    ) -> pb.CompareAndSetContextResponse:
        """Write the context's next version."""
        owner = Owner.of(principal())
        written = await self._contexts.compare_and_set(
            owner,
            _session_id(request.session_id),
            contexts.version(request.expected_version, "expected_version"),
            contexts.data(request),
        )
        return pb.CompareAndSetContextResponse(context=contexts.context_message(written))

    async def ListSnapshots(
        self, request: snapshots_pb.ListSnapshotsRequest, context: Context
    ) -> snapshots_pb.ListSnapshotsResponse:
        """Return a page of the versions that are kept."""
        owner = Owner.of(principal())
        page = await self._contexts.kept(
            owner, _session_id(request.session_id), values.page_request(request.page)
        )
        return snapshots_pb.ListSnapshotsResponse(
            snapshots=contexts.snapshot_messages(page.rows), page=values.page_info(page.next_token)
        )

    async def RestoreSnapshot(
        self, request: snapshots_pb.RestoreSnapshotRequest, context: Context
    ) -> snapshots_pb.RestoreSnapshotResponse:
        """Write an old version as the newest one."""
        owner = Owner.of(principal())
        written = await self._contexts.restore(
            owner,
            _session_id(request.session_id),
            contexts.version(request.version, "version"),
            values.request_of(request, request.request_id, owner.user_id),
        )
        return snapshots_pb.RestoreSnapshotResponse(context=contexts.context_message(written))

    async def DiffContext(
        self, request: snapshots_pb.DiffContextRequest, context: Context
    ) -> snapshots_pb.DiffContextResponse:
        """Return what leads from one version to another."""
        owner = Owner.of(principal())
        before, after = await self._contexts.two(
            owner,
            _session_id(request.session_id),
            contexts.version(request.from_version, "from_version"),
            contexts.version(request.to_version, "to_version"),
        )
        # Comparing large ones takes longer than others on the loop should wait.
        patch = await asyncio.to_thread(contexts.json_patch, before, after)
        return snapshots_pb.DiffContextResponse(json_patch=patch)


def _session_id(value: str) -> str:
    return parse_id(value, "session_id")
