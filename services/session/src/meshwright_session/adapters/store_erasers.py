"""The services that are asked to forget: the others over their channels, this one at hand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import asyncpg

from meshwright.erasure.v1 import store_erasure_service_pb2 as pb
from meshwright_common.context import MESH_INTERNAL, CallContext, bind, service_context
from meshwright_common.erasure.stored import StoredData, Subject, erase_stored
from meshwright_common.errors import Internal
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.adapters.postgres_sessions import SOURCE
from meshwright_session.domain.erasure_models import Erasure, StoreReport

if TYPE_CHECKING:
    from meshwright.erasure.v1.store_erasure_service_pb2_grpc import StoreErasureServiceAsyncStub

logger = get_logger(__name__)

CALL_SECONDS: Final = 30.0
"""What does not fit is asked for again."""


class PeerStores:
    """`StoreErasure` of another service."""

    def __init__(self, service: str, stub: "StoreErasureServiceAsyncStub") -> None:
        self.service = service
        self._stub = stub

    async def erase(self, erasure: Erasure) -> Sequence[StoreReport]:
        request = pb.EraseStoredRequest(service=self.service, keep_documents=erasure.keep_documents)
        if erasure.user_id:
            request.user_id = erasure.user_id
        else:
            request.tenant = True
        with bind(_context(erasure)):
            answer = await self._stub.EraseStored(request)
        return [
            StoreReport(self.service, one.store, one.removed_count, one.remaining_count)
            for one in answer.stores
        ]


class OwnStores:
    """`StoreErasure` of this service."""

    service = SOURCE

    def __init__(self, stores: Sequence[StoredData]) -> None:
        self._stores = stores

    async def erase(self, erasure: Erasure) -> Sequence[StoreReport]:
        subject = Subject(erasure.tenant_id, erasure.user_id, keep_documents=erasure.keep_documents)
        with bind(_context(erasure)):
            try:
                found = await erase_stored(self._stores, subject)
            except asyncpg.PostgresError as error:
                # Nobody's fault but ours: as another service would answer for one of its own.
                logger.exception("own_stores_not_erased", erasure_id=erasure.erasure_id)
                raise Internal("the stores of session failed") from error
        return [StoreReport(SOURCE, one.store, one.removed, one.remaining) for one in found]


def _context(erasure: Erasure) -> CallContext:
    return service_context(
        SOURCE, erasure.tenant_id, (MESH_INTERNAL,), timeout_seconds=CALL_SECONDS
    )
