"""What remembering is made of: composed for `app`, which serves and runs it."""

from dataclasses import dataclass
from typing import Final

import grpc.aio

from meshwright.rag.v1.memory_index_service_pb2_grpc import MemoryIndexServiceStub
from meshwright.session.v1.memory_service_pb2_grpc import add_MemoryServiceServicer_to_server
from meshwright_common.clock import SystemClock
from meshwright_common.encryption import KeyRing
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.postgres import Database
from meshwright_session.adapters.postgres_index_work import PostgresIndexWork
from meshwright_session.adapters.postgres_memories import PostgresMemories
from meshwright_session.adapters.postgres_summaries import PostgresSummaries
from meshwright_session.adapters.retrieval_client import RetrievalClient
from meshwright_session.domain.memory import Memories
from meshwright_session.domain.memory_indexing import Indexing
from meshwright_session.domain.summaries import Summaries
from meshwright_session.memory_worker import MemoryIndexWorker
from meshwright_session.servicers.memory import MemoryServicer
from meshwright_session.settings import SessionSection
from meshwright_session.wire.memories import WireReading

MEMORY_SERVICE: Final = "meshwright.session.v1.MemoryService"


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """What serves calls, and what works."""

    servicer: MemoryServicer
    worker: MemoryIndexWorker

    def register(self, server: grpc.aio.Server) -> None:
        """Register what serves calls."""
        add_MemoryServiceServicer_to_server(self.servicer, server)


def memory_parts(
    settings: SessionSection, database: Database, channels: Channels, keys: KeyRing
) -> MemoryParts:
    """Build the parts."""
    index = RetrievalClient(MemoryIndexServiceStub(channels.open("rag")))
    indexing = Indexing(PostgresIndexWork(database, keys), index)
    most = settings.memories_per_user
    memories = Memories(PostgresMemories(database, keys, most=most), index, indexing)
    summaries = Summaries(
        PostgresSummaries(database, keys, turns=settings.summary_turns, most=most),
        memories,
        indexing,
        WireReading(),
    )
    return MemoryParts(
        MemoryServicer(memories, summaries, SystemClock()),
        MemoryIndexWorker(indexing, look_seconds=settings.memory_look_seconds),
    )
