"""Contexts of sessions: read, written by version, brought back, compared."""

import re
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Header, Query, Response

from meshwright.session.v1 import context_snapshot_pb2, session_service_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.paging import API_PREFIX, IdempotencyKey, IdPath, PageSize, PageToken
from meshwright_gateway.http.schemas import contexts as schemas
from meshwright_gateway.peers import Peers
from meshwright_gateway.wire import values
from meshwright_gateway.wire.contexts import context_view, snapshot_view

_ETAG: Final = re.compile(r'"?(\d{1,18})"?')

IfMatch = Annotated[
    str,
    Header(
        alias="If-Match",
        max_length=64,
        description="The ETag of the version you have read, instead of expected_version.",
    ),
]
VersionQuery = Annotated[int | None, Query(ge=0, lt=1 << 62)]


def contexts_router(peers: Peers) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix=f"{API_PREFIX}/sessions/{{session_id}}/context", tags=["sessions"])

    @router.get("")
    async def get_context(session_id: IdPath, response: Response) -> schemas.Context:
        """The context; version 0 and no data before the first write."""
        answer = await peers.sessions.GetContext(
            session_service_pb2.GetContextRequest(session_id=session_id)
        )
        response.headers["etag"] = f'"{answer.context.version}"'
        return context_view(answer.context)

    @router.put("")
    async def put_context(
        session_id: IdPath, body: schemas.ContextWrite, response: Response, if_match: IfMatch = ""
    ) -> schemas.Context:
        """Write the next version, if the context still has the one that was read.

        Of two writers one wins; the other gets 409, CONTEXT_VERSION_CONFLICT, with the current
        version.
        """
        answer = await peers.sessions.CompareAndSetContext(
            session_service_pb2.CompareAndSetContextRequest(
                session_id=session_id,
                expected_version=_expected(body, if_match),
                data=values.struct_from(body.data),
            )
        )
        response.headers["etag"] = f'"{answer.context.version}"'
        return context_view(answer.context)

    @router.get("/snapshots")
    async def list_snapshots(
        session_id: IdPath, page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.ContextSnapshotList:
        """Versions that can be restored, newest first."""
        answer = await peers.sessions.ListSnapshots(
            context_snapshot_pb2.ListSnapshotsRequest(
                session_id=session_id, page=values.page_request(page_size, page_token)
            )
        )
        return schemas.ContextSnapshotList(
            snapshots=[snapshot_view(snapshot) for snapshot in answer.snapshots],
            next_page_token=answer.page.next_page_token,
        )

    @router.post("/restore")
    async def restore_context(
        session_id: IdPath, body: schemas.ContextRestore, idempotency_key: IdempotencyKey = ""
    ) -> schemas.Context:
        """Write an old version's data as the newest version."""
        answer = await peers.sessions.RestoreSnapshot(
            context_snapshot_pb2.RestoreSnapshotRequest(
                session_id=session_id, version=body.version, request_id=idempotency_key
            )
        )
        return context_view(answer.context)

    @router.get("/diff")
    async def diff_context(
        session_id: IdPath, from_version: VersionQuery = None, to_version: VersionQuery = None
    ) -> schemas.ContextDiff:
        """What leads from one version to another, from 0 to the current one unless named."""
        if to_version is None:
            current = await peers.sessions.GetContext(
                session_service_pb2.GetContextRequest(session_id=session_id)
            )
            to_version = current.context.version
        answer = await peers.sessions.DiffContext(
            context_snapshot_pb2.DiffContextRequest(
                session_id=session_id, from_version=from_version or 0, to_version=to_version
            )
        )
        return schemas.ContextDiff(
            from_version=from_version or 0,
            to_version=to_version,
            patch=orjson.loads(answer.json_patch),
        )

    return router


def _expected(body: schemas.ContextWrite, if_match: str) -> int:
    """Return the version that the writer has read. Raises: ShapeRefused."""
    expected = body.expected_version
    if if_match:
        match = _ETAG.fullmatch(if_match)
        if match is None:
            raise misshapen("If-Match", 'must be the ETag of a version, such as "3"')
        if expected is not None and expected != int(match[1]):
            raise misshapen("If-Match", "names another version than expected_version")
        return int(match[1])
    if expected is None:
        raise misshapen("expected_version", "is required, here or as If-Match")
    return expected
