"""chat's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

from meshwright.chat.v1.chat_service_pb2_grpc import add_ChatServiceServicer_to_server
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceStub
from meshwright_chat.adapters.metrics import TURNS_RUNNING
from meshwright_chat.adapters.orchestrator_client import OrchestratorClient
from meshwright_chat.adapters.postgres_places import PostgresPlaces
from meshwright_chat.adapters.postgres_turns import PostgresTurns
from meshwright_chat.adapters.redis_journal import RedisJournal
from meshwright_chat.adapters.session_client import SessionClient
from meshwright_chat.adapters.stored_data import stored_data
from meshwright_chat.domain.following import READ_WAIT_SECONDS, TurnReaders
from meshwright_chat.domain.live_turn import LiveTurn
from meshwright_chat.domain.settling import Settler
from meshwright_chat.domain.turn_runner import TurnRunner
from meshwright_chat.domain.turns import TurnDesk
from meshwright_chat.domain.working import Cadence, TurnFloor
from meshwright_chat.servicer import ChatServicer
from meshwright_chat.settings import Settings
from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.clock import SystemClock
from meshwright_common.encryption import open_key_ring
from meshwright_common.quotas import Quotas
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.redis import open_redis


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the service; leaving the block closes what it opened."""
    reader_timeout_seconds = READ_WAIT_SECONDS + 2 * settings.redis.timeout_seconds
    async with (
        open_database(settings.database, settings.service) as database,
        open_key_ring(settings.encryption, database) as ring,
        open_redis(settings.redis) as redis,
        open_redis(settings.redis, read_timeout_seconds=reader_timeout_seconds) as reader,
    ):
        now = SystemClock().now
        turns = PostgresTurns(database, ring, lease_seconds=settings.chat.turn_lease_seconds)
        sessions = SessionClient(SessionServiceStub(channels.open("session")))
        agents = OrchestratorClient(AgentServiceStub(channels.open("orchestrator")))
        quotas = Quotas(
            DirectoryServiceStub(channels.open("session")), settings.service, settings.quotas
        )
        journal = RedisJournal(redis, reader, ring)
        places = PostgresPlaces(
            database,
            ring,
            lease_seconds=settings.chat.turn_lease_seconds,
            most_queued=settings.chat.queued_turns,
            wait_seconds=settings.chat.queue_seconds,
        )
        live: dict[str, LiveTurn] = {}
        TURNS_RUNNING.set_function(lambda: len(live))
        readers = TurnReaders(turns, journal, live)
        floor = TurnFloor(
            runner=TurnRunner(
                turns=turns,
                places=places,
                sessions=sessions,
                agents=agents,
                journal=journal,
                now=now,
            ),
            settler=Settler(
                places=places, sessions=sessions, agents=agents, journal=journal, now=now
            ),
            turns=turns,
            places=places,
            agents=agents,
            readers=readers,
            live=live,
            cadence=Cadence(
                renew_seconds=settings.chat.lease_renew_seconds,
                sweep_seconds=settings.chat.sweep_seconds,
            ),
        )
        desk = TurnDesk(
            floor=floor,
            readers=readers,
            turns=turns,
            places=places,
            sessions=sessions,
            journal=journal,
            quotas=quotas,
            now=now,
            suspension_seconds=settings.chat.suspension_seconds,
        )

        def register(server: grpc.aio.Server) -> None:
            add_ChatServiceServicer_to_server(ChatServicer(desk), server)

        async def drain() -> None:
            await floor.drain(settings.chat.drain_seconds)

        yield App(
            name=settings.service,
            register=register,
            service_names=("meshwright.chat.v1.ChatService",),
            tasks=(
                BackgroundTask("turn-leases", floor.keep_leases),
                BackgroundTask("lost-turns", floor.take_over_lost),
                BackgroundTask("waiting-turns", floor.look_after_waiting),
                BackgroundTask("suspended-turns", desk.end_suspended),
            ),
            checks=(Check("database", database.probe),),
            drain=drain,
            stores=stored_data(database, redis),
        )
