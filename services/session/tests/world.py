"""The service on a real database behind the real interceptors, and people who call it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import asyncpg
import grpc.aio

from meshwright.session.v1 import directory_service_pb2, session_pb2, tenant_pb2
from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceStub
from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceStub
from meshwright.session.v1.session_service_pb2 import CreateSessionRequest, ListMessagesRequest
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceStub
from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceStub
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.context import MESH_INTERNAL, Principal
from meshwright_common.encryption import KeyRing
from meshwright_common.events.consumer import Consumer
from meshwright_common.identity.denials import Denials
from meshwright_common.identity.signing import RecordSigner, ephemeral_record_signer
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, ObjectSettings, RedisSettings
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import PostgresServer
from meshwright_common.testing.mesh import Served, Substrate, calling_as, serving
from meshwright_common.testing.waiting import eventually
from meshwright_session.adapters.notification_wake_ups import NotificationWakeUps
from meshwright_session.adapters.postgres_audit import PostgresAuditChain
from meshwright_session.adapters.postgres_directory import PostgresTenantRegister
from meshwright_session.adapters.postgres_usage import PostgresUsageLedger
from meshwright_session.adapters.token_quota import TokenAlerts
from meshwright_session.app import make_archive, make_notices, register_servicers
from meshwright_session.consumers import CONSUMER, TOPICS, Ledgers
from meshwright_session.context_parts import ContextParts, context_exports, context_parts
from meshwright_session.domain.roles import permissions_of
from meshwright_session.notices import NOTICE_TOPICS, NOTICES
from meshwright_session.record_parts import record_parts
from meshwright_session.settings import SessionSection

if TYPE_CHECKING:  # the names exist in the stubs' type files only
    from meshwright.session.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub
    from meshwright.session.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub
    from meshwright.session.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from meshwright.session.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

NO_TENANT = "00000000-0000-0000-0000-000000000000"
SMALL_SECTION = SessionSection(notifications_per_user=5, notification_look_seconds=60)
"""A share of notifications that a test can fill; a watcher that hears nothing looks too late."""
MESH = Principal(NO_TENANT, "gateway", "service", frozenset({MESH_INTERNAL}))


@dataclass(frozen=True)
class Member:
    """A user of a tenant, as a caller."""

    principal: Principal
    api_key: str = ""

    @property
    def tenant_id(self) -> str:
        return self.principal.tenant_id

    @property
    def user_id(self) -> str:
        return self.principal.subject

    def limited_to(self, *permissions: str) -> Principal:
        """The same user with a narrower credential."""
        return Principal(self.tenant_id, self.user_id, "user", frozenset(permissions))


@dataclass(frozen=True)
class World:
    """What a test calls and looks into."""

    database: Database
    keys: KeyRing
    objects: ObjectStore
    object_folder: Path
    redis: RedisClient
    context: ContextParts
    signer: RecordSigner
    denials: Denials
    superuser_url: str
    served: Served
    sessions: SessionServiceAsyncStub
    directory: DirectoryServiceAsyncStub
    usage: UsageServiceAsyncStub
    audit: AuditServiceAsyncStub
    notifications: NotificationServiceAsyncStub

    async def tenant(self, slug: str = "") -> Member:
        """Make a tenant; return its owner."""
        with calling_as(MESH):
            made = await self.directory.CreateTenant(
                directory_service_pb2.CreateTenantRequest(
                    tenant=tenant_pb2.Tenant(slug=slug or f"t-{new_id()}"), owner_name="admin"
                )
            )
        return Member(_principal(made.tenant.tenant_id, made.owner), made.api_key)

    async def member(self, owner: Member, *roles: str) -> Member:
        """Make a user with roles in the owner's tenant; a member by default."""
        with calling_as(owner.principal):
            made = await self.directory.CreateUser(
                directory_service_pb2.CreateUserRequest(
                    user=tenant_pb2.User(name=f"u-{new_id()}", roles=roles or ("member",))
                )
            )
        return Member(_principal(owner.tenant_id, made.user))

    async def session(self, member: Member) -> str:
        """Make a session of a user; return its id."""
        with calling_as(member.principal):
            made = await self.sessions.CreateSession(
                CreateSessionRequest(session=session_pb2.Session(title="a session"))
            )
        return made.session.session_id

    @contextlib.asynccontextmanager
    async def as_superuser(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Connect as nobody of ours may: past row-level security and privileges."""
        connection = await asyncpg.connect(
            self.superuser_url, server_settings={"search_path": "session, public"}
        )
        try:
            yield connection
        finally:
            await connection.close()


def _principal(tenant_id: str, user: tenant_pb2.User) -> Principal:
    roles = tuple(user.roles)
    return Principal(tenant_id, user.user_id, "user", permissions_of(roles), roles)


@contextlib.asynccontextmanager
async def open_world(
    settings: DatabaseSettings,
    server: PostgresServer,
    redis_settings: RedisSettings,
    substrate: Substrate = "local-copy",
) -> AsyncIterator[World]:
    """Serve the service on a fresh database."""
    name = urlsplit(settings.url).path.lstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_database(settings, "session") as database,
            listening(database) as wake_ups,
            open_objects(ObjectSettings(url=Path(folder).as_uri())) as objects,
            open_redis(redis_settings) as redis,
        ):
            keys = key_ring(database)
            context = context_parts(
                database,
                keys,
                redis,
                context_exports(database, objects),
                make_archive(database, keys, objects, SMALL_SECTION),
                SMALL_SECTION,
            )
            register_calls = partial(
                register_servicers,
                database=database,
                wake_ups=wake_ups,
                settings=SMALL_SECTION,
                keys=keys,
                context=context,
                denials=(denials := Denials()),
            )
            signer = ephemeral_record_signer()
            records = record_parts(SMALL_SECTION, database, objects, signer)

            def register(server: grpc.aio.Server) -> None:
                register_calls(server)
                records.register(server)

            async with serving(register, substrate=substrate) as served:
                channel = served.channels().open("session")
                yield World(
                    database=database,
                    keys=keys,
                    objects=objects,
                    object_folder=Path(folder),
                    redis=redis,
                    context=context,
                    signer=signer,
                    denials=denials,
                    superuser_url=server.superuser_url_of(name),
                    served=served,
                    sessions=SessionServiceStub(channel),
                    directory=DirectoryServiceStub(channel),
                    usage=UsageServiceStub(channel),
                    audit=AuditServiceStub(channel),
                    notifications=NotificationServiceStub(channel),
                )
            # As the running service does before it ends: the last turns are still being written.
            await context.checkpoints.written()


@contextlib.asynccontextmanager
async def listening(database: Database) -> AsyncIterator[NotificationWakeUps]:
    """Listen for notifications as the running service does."""
    wake_ups = NotificationWakeUps(database)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(wake_ups.run())
        await wake_ups.listening.wait()
        try:
            yield wake_ups
        finally:
            task.cancel()


def said(
    text: str, role: message_pb2.Role.ValueType = message_pb2.ROLE_USER
) -> message_pb2.Message:
    """Return a message of one text."""
    return message_pb2.Message(role=role, parts=[message_pb2.ContentPart(text=text)])


def answered(text: str) -> message_pb2.Message:
    """Return the assistant's message of one text."""
    part = message_pb2.ContentPart(text=text)
    return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[part])


def texts(stored: Iterable[session_pb2.StoredMessage]) -> list[str]:
    """Return what was said, in order."""
    return [message.message.parts[0].text for message in stored]


async def all_messages(
    world: World, member: Member, session_id: str, *, page_size: int = 200, newest: bool = False
) -> list[session_pb2.StoredMessage]:
    found: list[session_pb2.StoredMessage] = []
    token = ""
    with calling_as(member.principal):
        while True:
            page = await world.sessions.ListMessages(
                ListMessagesRequest(
                    session_id=session_id,
                    page=page_pb2.PageRequest(page_size=page_size, page_token=token),
                    newest_first=newest,
                )
            )
            found += page.messages
            token = page.page.next_page_token
            if not token:
                return found


async def consume_all(world: World) -> None:
    """Run the service's consumers until every event of their topics was handled or buried."""
    tokens = partial(TokenAlerts, plans=SMALL_SECTION.plans.plans())
    ledgers = Ledgers(PostgresUsageLedger, PostgresAuditChain, PostgresTenantRegister, tokens)
    notices = make_notices(SMALL_SECTION, world.keys)
    consumers = (
        Consumer(
            CONSUMER, TOPICS, ledgers.record, world.database, batch_handler=ledgers.record_all
        ),
        Consumer(
            NOTICES, NOTICE_TOPICS, notices.handle, world.database, batch_handler=notices.handle_all
        ),
    )
    async with world.as_superuser() as connection, asyncio.TaskGroup() as group:

        async def nothing_left() -> bool:
            left = await connection.fetchval(_LEFT, [*TOPICS, *NOTICE_TOPICS])
            return bool(left == 0)

        for consumer in consumers:
            group.create_task(consumer.run())
        try:
            await eventually(nothing_left)
        finally:
            for consumer in consumers:
                consumer.stop()


_LEFT: Final = """
SELECT count(*) FROM events.outbox o
 WHERE o.topic = ANY ($1)
   AND NOT EXISTS (SELECT FROM events.inbox i WHERE i.event_id = o.event_id)
   AND NOT EXISTS (SELECT FROM events.dead_letters d WHERE d.event_id = o.event_id)
"""
