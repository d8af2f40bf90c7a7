"""Two replicas of the session service, 200 sessions: they die, Redis is emptied, nothing is lost.

Everybody writes and reads through both at random. What was acknowledged is seen by whatever is read
afterwards, through either; versions and sequences have no gaps.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis.asyncio

from meshwright.session.v1 import directory_service_pb2, session_pb2, tenant_pb2
from meshwright.session.v1 import session_service_pb2 as pb
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.context import MESH_INTERNAL, Principal
from meshwright_common.errors import Aborted, DeadlineExceeded, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.settings import RedisSettings
from meshwright_common.testing.engines import DatabaseSettingsFor, PostgresServer
from meshwright_common.testing.mesh import calling_as
from tests.faults.session_replicas import Replica, running_replicas

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

T = TypeVar("T")

TENANTS: Final = 4
SESSIONS: Final = 200
WORKERS: Final = 16
STORM_SECONDS: Final = 12.0
SEED: Final = 20261128
NO_TENANT: Final = "00000000-0000-0000-0000-000000000000"
MESH: Final = Principal(NO_TENANT, "gateway", "service", frozenset({MESH_INTERNAL}))
EVERYTHING: Final = {"MESHWRIGHT_SESSION__CONTEXT__VERSIONS_KEPT": "10000"}

RIGHTS: Final = frozenset({"session:read", "session:write"})


@dataclass(slots=True)
class Conversation:
    """A session, and what its users were told is stored."""

    owner: Principal
    session_id: str
    texts: dict[int, str] = field(default_factory=dict)
    """By sequence."""
    newest: int = 0
    """The highest sequence acknowledged."""
    answers: dict[str, str] = field(default_factory=dict)
    """Text by message id."""
    version: int = 0
    """The highest version of the context acknowledged."""
    writers: dict[int, str] = field(default_factory=dict)
    """Who wrote the context's data, by version."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A session has one turn at a time; everything else comes in between."""

    def stored(self, sequence: int, text: str) -> None:
        assert self.texts.setdefault(sequence, text) == text
        self.newest = max(self.newest, sequence)

    def written(self, version: int, writer: str) -> None:
        assert version not in self.writers, "one version was given to two writers"
        if writer:
            self.writers[version] = writer
        self.version = max(self.version, version)

    def check_messages(
        self, found: Sequence[session_pb2.StoredMessage], newest: int, *, to_the_end: bool = True
    ) -> None:
        """Check messages in order, read after `newest` was acknowledged."""
        sequences = [one.sequence for one in found]
        if to_the_end:
            assert (sequences[-1] if sequences else 0) >= newest
        assert sequences == [*range(sequences[0], sequences[-1] + 1)] if sequences else True
        for one in found:
            assert self.texts.get(one.sequence, text_of(one)) == text_of(one)

    def check_context(self, context: session_pb2.Context, version: int) -> None:
        """Check a context read after `version` was acknowledged."""
        assert context.version >= version
        if writer := self.writers.get(context.version):
            assert context.data["by"] == writer


def text_of(stored: session_pb2.StoredMessage) -> str:
    """Return what was said."""
    return stored.message.parts[0].text


def said(
    text: str, role: message_pb2.Role.ValueType = message_pb2.ROLE_USER
) -> message_pb2.Message:
    """Return a message."""
    return message_pb2.Message(role=role, parts=[message_pb2.ContentPart(text=text)])


class Crowd:
    """Callers who choose a session, an act and a replica at random."""

    def __init__(
        self, replicas: list[Replica], conversations: list[Conversation], dice: random.Random
    ) -> None:
        self._replicas = replicas
        self._conversations = conversations
        self._dice = dice
        self.done = 0

    async def work(self, until: float) -> None:
        """Do one thing after the other."""
        acts = (self.turn, self.turn, self.append, self.write, self.read)
        while asyncio.get_running_loop().time() < until:
            conversation = self._dice.choice(self._conversations)
            with calling_as(conversation.owner, timeout_seconds=60):
                await self._dice.choice(acts)(conversation)
            self.done += 1

    async def turn(self, talk: Conversation) -> None:
        async with talk.busy:
            turn_id, writer = new_id(), self._dice.choice(("", new_id()))
            newest, version = talk.newest, talk.version
            begun = await self._until_done(
                lambda one: one.sessions.BeginTurn(
                    pb.BeginTurnRequest(
                        session_id=talk.session_id,
                        turn_id=turn_id,
                        message=said(f"question {turn_id}"),
                        max_messages=self._dice.choice((0, 5, 200)),
                    )
                )
            )
            talk.check_messages(begun.messages, newest)
            talk.check_context(begun.context, version)
            assert text_of(begun.messages[-1]) == f"question {turn_id}"
            talk.stored(begun.messages[-1].sequence, f"question {turn_id}")
            request = pb.CommitTurnRequest(
                session_id=talk.session_id,
                turn_id=turn_id,
                messages=[said(f"answer {turn_id}", message_pb2.ROLE_ASSISTANT)],
                question=said(f"question {turn_id}"),
            )
            if writer:
                request.context_changes.update({"by": writer})
            committed = await self._until_done(lambda one: one.sessions.CommitTurn(request))
            talk.written(committed.context_version, writer)
            talk.answers[committed.message_id] = f"answer {turn_id}"

    async def append(self, talk: Conversation) -> None:
        request = pb.AppendMessagesRequest(
            session_id=talk.session_id, messages=[said(new_id())], request_id=new_id()
        )
        stored = await self._until_done(lambda one: one.sessions.AppendMessages(request))
        talk.stored(stored.messages[0].sequence, request.messages[0].parts[0].text)

    async def write(self, talk: Conversation) -> None:
        version = talk.version
        found = await self._until_done(
            lambda one: one.sessions.GetContext(pb.GetContextRequest(session_id=talk.session_id))
        )
        talk.check_context(found.context, version)
        request = pb.CompareAndSetContextRequest(
            session_id=talk.session_id, expected_version=found.context.version
        )
        request.data.update({"by": new_id()})
        try:
            written = await self._dice.choice(self._replicas).sessions.CompareAndSetContext(request)
        except (Aborted, Unavailable, DeadlineExceeded):
            # Another one came first, or nobody was told whether it was written.
            return
        assert written.context.version == request.expected_version + 1
        talk.written(written.context.version, str(request.data["by"]))

    async def read(self, talk: Conversation) -> None:
        newest = talk.newest
        page = await self._until_done(
            lambda one: one.sessions.ListMessages(
                pb.ListMessagesRequest(
                    session_id=talk.session_id,
                    page=page_pb2.PageRequest(page_size=self._dice.choice((3, 50, 200))),
                    newest_first=True,
                )
            )
        )
        talk.check_messages(page.messages[::-1], newest)

    async def _until_done(self, call: Callable[[Replica], Awaitable[T]]) -> T:
        """Repeat a call through one replica or the other until it is answered."""
        while True:
            try:
                return await call(self._dice.choice(self._replicas))
            except Aborted:
                # Two transactions in each other's way: neither did anything.
                continue
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(0.02)  # Both may be dead for a while.


@pytest.mark.promise("CONTEXT-01")
@pytest.mark.promise("CONTEXT-02")
@pytest.mark.promise("CONTEXT-03")
async def test_no_turn_is_lost_and_no_read_is_stale_while_replicas_die_and_redis_is_emptied(
    database_settings: DatabaseSettingsFor,
    postgres_server: PostgresServer,
    redis_settings: RedisSettings,
    tmp_path: Path,
) -> None:
    database = await database_settings("meshwright_session")
    dice = random.Random(SEED)  # noqa: S311 -- for choices
    async with running_replicas(
        tmp_path, database, redis_settings, count=2, environment=EVERYTHING
    ) as replicas:
        conversations = await open_conversations(replicas[0])
        crowd = Crowd(replicas, conversations, dice)
        until = asyncio.get_running_loop().time() + STORM_SECONDS
        async with (
            redis.asyncio.Redis.from_url(redis_settings.url) as cache,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(WORKERS):
                group.create_task(crowd.work(until))
            group.create_task(storm(replicas, cache, dice, until))
        assert crowd.done >= 500
        assert sum(replica.deaths for replica in replicas) >= 2
        for replica in replicas:
            await check_all(replica, conversations)
    name = urlsplit(database.url).path.lstrip("/")
    await check_tables(postgres_server.superuser_url_of(name))


async def storm(
    replicas: list[Replica], cache: redis.asyncio.Redis, dice: random.Random, until: float
) -> None:
    """Kill a replica, start it again, empty Redis: again and again."""
    while asyncio.get_running_loop().time() < until:
        # What happens in between is the test.
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        if dice.random() < 0.5:
            await cache.flushall()
        else:
            replica = dice.choice(replicas)
            await replica.kill()
            await replica.start()


async def open_conversations(replica: Replica) -> list[Conversation]:
    """Make tenants and sessions."""
    made = []
    for number in range(TENANTS):
        with calling_as(MESH):
            tenant = await replica.directory.CreateTenant(
                directory_service_pb2.CreateTenantRequest(
                    tenant=tenant_pb2.Tenant(slug=f"tenant-{number}"), owner_name="owner"
                )
            )
        owner = Principal(tenant.tenant.tenant_id, tenant.owner.user_id, "user", RIGHTS)
        with calling_as(owner, timeout_seconds=30):
            created = await asyncio.gather(
                *(
                    replica.sessions.CreateSession(pb.CreateSessionRequest())
                    for _ in range(SESSIONS // TENANTS)
                )
            )
        made += [Conversation(owner, one.session.session_id) for one in created]
    return made


async def check_all(replica: Replica, conversations: list[Conversation]) -> None:
    """Check that a replica has all that anybody was told is stored, once."""
    for talk in conversations:
        found: list[session_pb2.StoredMessage] = []
        token = ""
        with calling_as(talk.owner, timeout_seconds=30):
            while token or not found:
                page = await replica.sessions.ListMessages(
                    pb.ListMessagesRequest(
                        session_id=talk.session_id,
                        page=page_pb2.PageRequest(page_size=200, page_token=token),
                    )
                )
                found += page.messages
                token = page.page.next_page_token
                if not token:
                    break
            context = await replica.sessions.GetContext(
                pb.GetContextRequest(session_id=talk.session_id)
            )
        texts = [text_of(one) for one in found]
        assert [one.sequence for one in found] == [*range(1, len(found) + 1)]
        assert len(texts) == len(set(texts)), "something was stored twice"
        assert talk.texts.items() <= dict(enumerate(texts, start=1)).items()
        assert talk.answers.items() <= {one.message_id: text_of(one) for one in found}.items()
        talk.check_context(context.context, talk.version)


async def check_tables(superuser_url: str) -> None:
    """Check that the versions of every context follow each other, in turns and in its past."""
    connection = await asyncpg.connect(superuser_url)
    try:
        gaps = await connection.fetch(_GAPS)
        doubles = await connection.fetchval(_DOUBLES)
    finally:
        await connection.close()
    assert gaps == []
    assert doubles == 0


# Each version was given out once: to a turn, or to a write that the past of the context still has.
_GAPS: Final = """
SELECT s.session_id
  FROM session.sessions s
 WHERE s.context_version <> (
           SELECT count(DISTINCT given.version)
             FROM (
                 SELECT t.context_version AS version FROM session.turn_commits t
                  WHERE t.session_id = s.session_id AND t.message_id IS NOT NULL
                 UNION ALL
                 SELECT c.version FROM session.contexts c WHERE c.session_id = s.session_id
             ) AS given
            WHERE given.version BETWEEN 1 AND s.context_version
       )
"""

_DOUBLES: Final = """
SELECT count(*) FROM (
    SELECT session_id, context_version FROM session.turn_commits
     WHERE message_id IS NOT NULL
     GROUP BY session_id, context_version HAVING count(*) > 1
) AS doubles
"""
