"""PostgreSQL dies before it wrote a question down: the question comes back with its answer.

A question does not wait for the disk (ADR 0016). Here nothing that did not wait gets there: the
process that would write it is stopped, then the server is killed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import pytest_asyncio

from meshwright.session.v1 import session_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.encryption import KeyRing
from meshwright_common.errors import Unavailable
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, ObjectSettings, RedisSettings
from meshwright_common.storage.bootstrap import DATABASE, OWNER_SERVICE, bootstrap
from meshwright_common.storage.embedded.postgres import EmbeddedPostgres
from meshwright_common.storage.embedded.process import LOOPBACK
from meshwright_common.storage.migrations import migrate, migrate_events
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.patience import patient_database
from meshwright_common.testing.waiting import eventually
from meshwright_session.adapters.postgres_messages import PostgresMessages
from meshwright_session.adapters.postgres_sessions import PostgresSessions
from meshwright_session.app import make_archive
from meshwright_session.context_parts import ContextParts, context_exports, context_parts
from meshwright_session.domain.models import (
    ContextChanges,
    MessageDraft,
    Owner,
    SessionDraft,
)
from meshwright_session.settings import SessionSection

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

SESSIONS: Final = 12


@dataclass(frozen=True, slots=True)
class Service:
    """A process of the service: its memory, and its connections to what it shares."""

    database: Database
    keys: KeyRing
    parts: ContextParts
    owner: Owner

    async def begin(self, session_id: str, turn_id: str, text: str) -> list[str]:
        """Begin a turn; return what its agent reads."""
        opening = await self.parts.turns.begin(self.owner, session_id, turn_id, draft(text), 40)
        return [text_of(message.content) for message in opening.messages]

    async def commit(self, session_id: str, turn_id: str, question: str, answer: str) -> None:
        """Commit a turn."""
        await self.parts.turns.commit(
            self.owner, session_id, turn_id, [draft(answer)], ContextChanges({}), draft(question)
        )

    async def stored(self, session_id: str) -> list[str]:
        """Return what PostgreSQL has of a session, in order."""
        found = await PostgresMessages(self.database, self.keys).list(
            self.owner, session_id, None, 200, newest_first=False
        )
        assert [message.sequence for message in found] == [*range(1, len(found) + 1)]
        return [text_of(message.content) for message in found]


def draft(text: str) -> MessageDraft:
    """Return a message."""
    part = message_pb2.ContentPart(text=text)
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
    stored = session_pb2.StoredMessage(message=message)
    return MessageDraft("user", stored.SerializeToString(), text)


def text_of(content: bytes) -> str:
    """Return what was said."""
    return session_pb2.StoredMessage.FromString(content).message.parts[0].text


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that keeps what it promised."""
    password = secrets.token_urlsafe(16)
    engine = EmbeddedPostgres(tmp_path / "pg", password=password, log=tmp_path / "pg.log")
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


@pytest_asyncio.fixture
async def settings(server: EmbeddedPostgres) -> DatabaseSettings:
    """The session service's tables on it."""
    password = secrets.token_urlsafe(16)
    await bootstrap(server.url(), password=password, database=DATABASE)
    login = f"meshwright_{{service}}:{password}@{LOOPBACK}:{server.port}"
    settings = patient_database(f"postgresql://{login}/{DATABASE}")
    owner_url = settings.url_for(OWNER_SERVICE)
    await migrate_events(owner_url)
    await migrate(owner_url, "session", "meshwright_session")
    return settings


@pytest_asyncio.fixture
async def stores(
    redis_settings: RedisSettings, tmp_path: Path
) -> AsyncIterator[tuple[RedisClient, ObjectStore]]:
    """What the processes share besides."""
    objects_url = (tmp_path / "objects").as_uri()
    async with (
        open_redis(redis_settings) as redis,
        open_objects(ObjectSettings(url=objects_url)) as objects,
    ):
        yield redis, objects


def service(database: Database, stores: tuple[RedisClient, ObjectStore], owner: Owner) -> Service:
    """Start a process with nothing in its memory."""
    redis, objects = stores
    keys, section = key_ring(database), SessionSection()
    archive = make_archive(database, keys, objects, section)
    exports = context_exports(database, objects)
    parts = context_parts(database, keys, redis, exports, archive, section)
    return Service(database, keys, parts, owner)


async def crash(server: EmbeddedPostgres, walwriter: int) -> None:
    """Kill the server at once, and start it again at its address."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    # It was stopped, and holds on to the folder.
    os.kill(walwriter, signal.SIGKILL)

    async def ended() -> bool:
        return not server.running

    await eventually(ended)
    server.start(port=server.port)


async def stop_writing(server: EmbeddedPostgres) -> int:
    """Stop the process that writes down what nobody waited for; return its pid."""
    connection = await asyncpg.connect(server.url())
    try:
        pid: int = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        )
    finally:
        await connection.close()
    os.kill(pid, signal.SIGSTOP)
    return pid


async def make_user(server: EmbeddedPostgres) -> Owner:
    """Make a tenant with a user."""
    owner = Owner(new_id(), new_id())
    connection = await asyncpg.connect(server.url(DATABASE))
    try:
        await connection.execute("SET search_path = session")
        await connection.execute(
            "INSERT INTO tenants (tenant_id, slug, display_name, plan, first_owner_id)"
            " VALUES ($1, 'tenant', '', 'starter', $2)",
            owner.tenant_id,
            owner.user_id,
        )
        await connection.execute(
            "INSERT INTO users (tenant_id, user_id, name, roles) VALUES ($1, $2, 'u', '{owner}')",
            owner.tenant_id,
            owner.user_id,
        )
    finally:
        await connection.close()
    return owner


async def back(server_call: Callable[[], Awaitable[object]]) -> None:
    """Return when a server that was started again answers this process."""

    async def answers() -> bool:
        try:
            await server_call()
        except Unavailable:
            return False
        return True

    await eventually(answers, timeout_seconds=20)


@pytest.mark.promise("CONTEXT-07")
async def test_question_that_a_crash_took_is_stored_with_its_answer_and_nothing_else_is_lost(
    server: EmbeddedPostgres,
    settings: DatabaseSettings,
    stores: tuple[RedisClient, ObjectStore],
) -> None:
    owner = await make_user(server)
    session_ids, turns = ([new_id() for _ in range(SESSIONS)] for _ in range(2))
    async with (
        open_database(settings, "session") as database,
        open_database(settings, "session") as another,
    ):
        one, other = service(database, stores, owner), service(another, stores, owner)
        sessions = PostgresSessions(database, one.keys)
        for session_id in session_ids:
            await sessions.create(owner, session_id, SessionDraft(), None)
            turn_id = new_id()
            await one.begin(session_id, turn_id, "before?")
            await one.commit(session_id, turn_id, "before?", "before.")
        walwriter = await stop_writing(server)
        begun = await asyncio.gather(*map(one.begin, session_ids, turns, ["lost?"] * SESSIONS))
        await crash(server, walwriter)
        assert [["before?", "before.", "lost?"]] * SESSIONS == begun

        for process in (one, other):
            await back(partial(process.stored, session_ids[0]))
        for number, (session_id, turn_id) in enumerate(zip(session_ids, turns, strict=True)):
            assert ["before?", "before."] == await other.stored(session_id)
            if number % 2 == 0:
                # Something else gets the number that the question had. `one` still has that.
                await other.commit(session_id, new_id(), "instead?", "instead.")
            await one.commit(session_id, turn_id, "lost?", "found.")
            said = ["before?", "before.", *(["instead?", "instead."] if number % 2 == 0 else [])]
            said += ["lost?", "found."]
            assert said == await other.stored(session_id)
            for process in (one, other):
                said.append("next?")
                assert said == await process.begin(session_id, new_id(), "next?")
