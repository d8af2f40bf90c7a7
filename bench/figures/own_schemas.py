"""Tenants with schemas of their own: what the others pay for them, and what a move costs whom."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from bench.durable_database import durable_server
from bench.measurement import Measurement
from bench.message_tables import MESSAGES_A_SESSION, Filled, fill
from bench.percentiles import summarise
from bench.targets import Target
from meshwright_common.encryption import KeyRing
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import place_tenant
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.testing.encryption import key_ring
from meshwright_session.adapters.context_history import ContextHistory
from meshwright_session.adapters.postgres_messages import PostgresMessages
from meshwright_session.adapters.postgres_sessions import PostgresSessions
from meshwright_session.adapters.postgres_turns import PostgresTurns
from meshwright_session.domain.context_schema import SCHEMA
from meshwright_session.domain.models import ContextChanges, NewMessage, Owner, SessionDraft
from meshwright_session.settings import SessionSection

NAME: Final = "own_schemas"
ABOUT: Final = (
    "a shared tenant's statements, in turns, with no other tenant placed and with many, in tables "
    "of 20 k messages over a year: a turn's question and answer, messages added, a page of 50, a "
    "list of sessions; ÷ shared: their ratios. Then that tenant moves into its own schema while "
    "another one writes: rows a second, and the writer's longest wait before and during"
)
PLACED: Final = 50
QUICK_PLACED: Final = 5
SESSIONS: Final = 200
ROUNDS: Final = 300
QUICK_ROUNDS: Final = 60
BEFORE_SECONDS: Final = 3.0

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Tables:
    """A database of its own, and what reads and writes it."""

    owner_url: str
    database: Database
    keys: KeyRing
    filled: Filled

    def work(self) -> dict[str, Work]:
        """Return what is measured, by the name of its metric."""
        own = SessionSection().context
        history = ContextHistory(own.versions_kept, own.windows_kept, own.window_seconds)
        turns = PostgresTurns(self.database, self.keys, SCHEMA, history, summary_turns=10)
        messages = PostgresMessages(self.database, self.keys)
        sessions = PostgresSessions(self.database, self.keys)
        owner = self.filled.owner
        next_one = itertools.cycle(self.filled.long_sessions)

        def asked() -> Awaitable[object]:
            return turns.begin(owner, next(next_one), new_id(), _said(), most=1, known=None)

        def answered() -> Awaitable[object]:
            changes = ContextChanges({"topic": "words"})
            return turns.commit(
                owner, next(next_one), new_id(), [_said()], changes, question=None, known=None
            )

        return {
            "question": asked,
            "answer": answered,
            "append": lambda: messages.append(
                owner, next(next_one), [_said()], turn_id=None, request=None
            ),
            "page_50": lambda: messages.list(owner, next(next_one), None, 50, newest_first=True),
            "list_sessions": lambda: sessions.list(owner, None, 50),
        }


def _said() -> NewMessage:
    return NewMessage(new_id(), "user", b"\x2a\x00", "some words of a writer")


def measure(*, repeats: int, quick: bool, scratch: Path) -> list[Measurement]:
    """Fill both once, work on them in turns. The tenant moves after the last repeat."""
    with ExitStack() as stack:
        servers = {}
        for target in (Target.SHARED, Target.OWN_SCHEMAS):
            folder = scratch / target.value
            folder.mkdir()
            servers[target] = stack.enter_context(durable_server(folder))
        return asyncio.run(_measure(servers, repeats=repeats, quick=quick))


async def _measure(
    servers: Mapping[Target, tuple[DatabaseSettings, str]], *, repeats: int, quick: bool
) -> list[Measurement]:
    measurements = []
    async with AsyncExitStack() as stack:
        tables = {}
        for target, (settings, superuser_url) in servers.items():
            database = await stack.enter_async_context(open_database(settings, "session"))
            keys = key_ring(database)
            owner = Owner(new_id(), new_id())
            filled = await fill(
                superuser_url, await keys.keys_of(owner.tenant_id), owner, sessions=SESSIONS
            )
            tables[target] = Tables(settings.url_for(OWNER_SERVICE), database, keys, filled)
        placed = QUICK_PLACED if quick else PLACED
        for _ in range(placed):
            await place_tenant(tables[Target.OWN_SCHEMAS].owner_url, "session", new_id())
        for repeat in range(repeats):
            measured = await _work(tables, QUICK_ROUNDS if quick else ROUNDS)
            measured[Target.OWN_SCHEMAS]["placed_tenants"] = float(placed)
            if repeat == repeats - 1:
                measured[Target.SHARED] |= await _move(
                    tables[Target.SHARED], servers[Target.SHARED][1]
                )
            measurements += [
                Measurement(NAME, target, repeat, values) for target, values in measured.items()
            ]
    return measurements


async def _work(tables: Mapping[Target, Tables], rounds: int) -> dict[Target, dict[str, float]]:
    """Do each kind on either side in turns, so that the machine's moods hit both."""
    work = {target: one.work() for target, one in tables.items()}
    measured: dict[Target, dict[str, float]] = {target: {} for target in tables}
    for kind in work[Target.SHARED]:
        times: dict[Target, list[float]] = {target: [] for target in tables}
        for number in range(rounds + rounds // 10):
            for target in tables:
                began = time.perf_counter()
                await work[target][kind]()
                # The first ones warm caches and plans.
                if number >= rounds // 10:
                    times[target].append(time.perf_counter() - began)
        for target, taken in times.items():
            measured[target][f"{kind}_p50_ms"] = summarise(taken, scale=1000).p50
        measured[Target.OWN_SCHEMAS][f"{kind}_p50_vs_shared"] = (
            measured[Target.OWN_SCHEMAS][f"{kind}_p50_ms"]
            / measured[Target.SHARED][f"{kind}_p50_ms"]
        )
    return measured


async def _move(tables: Tables, superuser_url: str) -> dict[str, float]:
    """Move the filled tenant while another one writes; nobody may fail."""
    other = Owner(new_id(), new_id())
    connection = await asyncpg.connect(superuser_url)
    try:
        await connection.execute(_TENANT, other.tenant_id, other.user_id)
        await connection.execute(_USER, other.tenant_id, other.user_id)
    finally:
        await connection.close()
    session_id = new_id()
    sessions = PostgresSessions(tables.database, tables.keys)
    await sessions.create(other, session_id, SessionDraft(title="written"), None)
    few = Filled(other, (session_id,))
    append = Tables(tables.owner_url, tables.database, tables.keys, few).work()["append"]
    written: list[tuple[float, float]] = []
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            began = time.perf_counter()
            await append()
            written.append((began, time.perf_counter()))

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await asyncio.sleep(BEFORE_SECONDS)
        began = time.perf_counter()
        placed = await place_tenant(tables.owner_url, "session", tables.filled.owner.tenant_id)
        seconds = time.perf_counter() - began
        done.set()
    before = [end - start for start, end in written if end < began]
    during = [end - start for start, end in written if end >= began]
    return {
        "moved_rows_per_second": placed.rows / seconds,
        "moved_messages": float(SESSIONS * MESSAGES_A_SESSION),
        "write_before_max_ms": max(before) * 1000,
        "write_during_max_ms": max(during) * 1000,
        "write_during_p50_ms": summarise(during, scale=1000).p50,
    }


_TENANT: Final = """
INSERT INTO session.tenants (tenant_id, slug, display_name, plan, first_owner_id)
VALUES ($1, 'other', 'other', 'enterprise', $2)
"""
_USER: Final = """
INSERT INTO session.users (tenant_id, user_id, name, roles) VALUES ($1, $2, 'other', '{owner}')
"""
