"""What a tenant uses at rag and at chat, asked for at both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, TypeVar

from meshwright.chat.v1 import chat_service_pb2
from meshwright.rag.v1 import knowledge_service_pb2
from meshwright_common.context import MESH_INTERNAL, bind, service_context
from meshwright_common.errors import DeadlineExceeded, Unavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_session.domain.tenant_models import Use

if TYPE_CHECKING:
    from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceAsyncStub
    from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceAsyncStub

SERVICE: Final = "session"
ASK_SECONDS: Final = 2.0
T = TypeVar("T")
logger = get_logger(__name__)


class UseClients:
    """`UseElsewhere` over the stubs of the services that count."""

    def __init__(self, knowledge: KnowledgeServiceAsyncStub, chat: ChatServiceAsyncStub) -> None:
        self._knowledge = knowledge
        self._chat = chat

    async def of(self, tenant_id: str) -> Use:
        call = service_context(SERVICE, tenant_id, (MESH_INTERNAL,), timeout_seconds=ASK_SECONDS)
        with bind(call):
            stored, running = await asyncio.gather(
                _or_none(
                    self._knowledge.GetStorageUse(knowledge_service_pb2.GetStorageUseRequest())
                ),
                _or_none(self._chat.CountRunningTurns(chat_service_pb2.CountRunningTurnsRequest())),
            )
        return Use(
            documents=None if stored is None else stored.documents,
            storage_bytes=None if stored is None else stored.storage_bytes,
            concurrent_turns=None if running is None else running.running_turns,
        )


async def _or_none(asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except (Unavailable, DeadlineExceeded) as error:
        logger.warning("use_not_known", reason=error.reason)
        return None
