"""Sessions and messages at size: lists and loads beside small tables, and months dropped."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.durable_database import durable_server
from bench.measurement import Measurement
from bench.message_tables import MESSAGES_A_SESSION, MONTHS, VOCABULARY, Filled, fill, word
from bench.percentiles import summarise
from bench.processes import ProcessError
from bench.targets import Target
from meshwright_common.encryption import KeyRing
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.testing.encryption import key_ring
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from meshwright_session.adapters.postgres_messages import PostgresMessages
from meshwright_session.adapters.postgres_sessions import PostgresSessions
from meshwright_session.domain.message_search import MessageQuery
from meshwright_session.domain.models import NewMessage, Owner, SessionDraft
from meshwright_session.domain.retention import BUSY
from meshwright_session.workers import BUSY_ATTEMPTS, BUSY_PAUSE_SECONDS

NAME: Final = "session_size"
ABOUT: Final = (
    "one user's sessions in tables of 1 M messages (10 k sessions) beside tables of 10 k messages, "
    "in turns: p99 of a page of 50 sessions, of 50 messages from either end, of the newest 200, "
    "read, opened and decrypted, and of a search for two words; ÷ small: their ratios. Then months "
    "are dropped (83 k messages each) while eight writers append: how long that takes, with "
    "the attempts at which the table was in use, and the writers' p99 before and during"
)
SESSIONS: Final[Mapping[Target, int]] = {Target.SMALL: 100, Target.LARGE: 10_000}
QUICK_SESSIONS: Final[Mapping[Target, int]] = {Target.SMALL: 100, Target.LARGE: 2_000}
READS: Final = 1500
QUICK_READS: Final = 300
SEARCH: Final = "search"
WRITERS: Final = 8
DROPS: Final = 3
BEFORE_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = 0.5

Read = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Tables:
    """A database of its own, and what reads and writes it."""

    database: Database
    keys: KeyRing
    filled: Filled

    def reads(self, dice: random.Random) -> dict[str, Read]:
        """Return what is measured, by the name of its metric."""
        sessions = PostgresSessions(self.database, self.keys)
        messages = PostgresMessages(self.database, self.keys)
        owner = self.filled.owner

        def read(limit: int, *, newest_first: bool) -> Read:
            return lambda: messages.list(
                owner, dice.choice(self.filled.long_sessions), None, limit,
                newest_first=newest_first,
            )  # fmt: skip

        return {
            "list_sessions": lambda: sessions.list(owner, None, 50),
            "newest_50": read(50, newest_first=True),
            "oldest_50": read(50, newest_first=False),
            "newest_200": read(200, newest_first=True),
            SEARCH: lambda: messages.search(owner, _two_words(dice), None, 50),
        }


def measure(*, repeats: int, quick: bool, scratch: Path) -> list[Measurement]:
    """Fill both once, read them in turns. Months are dropped in the last repeat."""
    with ExitStack() as stack:
        servers = {}
        for target in SESSIONS:
            folder = scratch / target.value
            folder.mkdir()
            servers[target] = stack.enter_context(durable_server(folder))
        return asyncio.run(_measure(servers, repeats=repeats, quick=quick))


async def _measure(
    servers: Mapping[Target, tuple[DatabaseSettings, str]], *, repeats: int, quick: bool
) -> list[Measurement]:
    counts = QUICK_SESSIONS if quick else SESSIONS
    measurements = []
    async with AsyncExitStack() as stack:
        tables = {}
        for target, (settings, superuser_url) in servers.items():
            database = await stack.enter_async_context(open_database(settings, "session"))
            keys = key_ring(database)
            owner = Owner(new_id(), new_id())
            filled = await fill(
                superuser_url,
                await keys.keys_of(owner.tenant_id),
                owner,
                sessions=counts[target],
            )
            tables[target] = Tables(database, keys, filled)
        for repeat in range(repeats):
            measured = await _read(tables, repeat, QUICK_READS if quick else READS)
            if repeat == repeats - 1:
                measured[Target.LARGE] |= await _drop_months(tables[Target.LARGE])
            for target, values in measured.items():
                values["messages"] = float(counts[target] * MESSAGES_A_SESSION)
                measurements.append(Measurement(NAME, target, repeat, values))
    return measurements


async def _read(
    tables: Mapping[Target, Tables], repeat: int, count: int
) -> dict[Target, dict[str, float]]:
    """Read each kind from either side in turns, so that the machine's moods hit both."""
    dice = random.Random(repeat)  # noqa: S311 - the same sessions each time
    reads = {target: one.reads(dice) for target, one in tables.items()}
    measured: dict[Target, dict[str, float]] = {target: {} for target in tables}
    for kind in reads[Target.SMALL]:
        times: dict[Target, list[float]] = {target: [] for target in tables}
        for number in range(count + count // 10):
            for target in tables:
                began = time.perf_counter()
                await reads[target][kind]()
                # The first ones warm caches and plans.
                if number >= count // 10:
                    times[target].append(time.perf_counter() - began)
        for target, taken in times.items():
            summary = summarise(taken, scale=1000)
            measured[target] |= {f"{kind}_p50_ms": summary.p50, f"{kind}_p99_ms": summary.p99}
        # A search finds more in more messages: it is shown, not compared.
        if kind != SEARCH:
            measured[Target.LARGE][f"{kind}_p99_vs_small"] = (
                measured[Target.LARGE][f"{kind}_p99_ms"] / measured[Target.SMALL][f"{kind}_p99_ms"]
            )
    return measured


def _two_words(dice: random.Random) -> MessageQuery:
    one, other = dice.sample(range(VOCABULARY), 2)
    return MessageQuery(f"{word(one)} {word(other)}")


async def _drop_months(tables: Tables) -> dict[str, float]:
    """Drop the oldest months while writers append; nobody may fail."""
    store = PostgresHousekeeping(tables.database)
    written: list[tuple[float, float]] = []
    done = asyncio.Event()
    drops: list[tuple[float, float]] = []
    calls: list[float] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(_write(tables, written, done))
        await asyncio.sleep(BEFORE_SECONDS)
        for number in range(DROPS):
            began = time.perf_counter()
            calls.append(await _drop_month(store, MONTHS - 1 - number))
            drops.append((began, time.perf_counter()))
            await asyncio.sleep(PAUSE_SECONDS)
        done.set()
    first = drops[0][0]
    before = summarise([end - start for start, end in written if end < first], scale=1000)
    beside = [
        end - start
        for start, end in written
        if any(start <= dropped and end >= began for began, dropped in drops)
    ]
    during = summarise(beside, scale=1000)
    return {
        "drop_month_max_ms": max(end - start for start, end in drops) * 1000,
        "drop_month_itself_max_ms": max(calls) * 1000,
        "writes_before": before.count,
        "write_before_p99_ms": before.p99,
        "write_before_max_ms": before.max,
        "writes_during": during.count,
        "write_during_p99_ms": during.p99,
        "write_during_max_ms": during.max,
    }


async def _drop_month(store: PostgresHousekeeping, kept: int) -> float:
    """Drop a month as housekeeping does; return the seconds of the call that dropped it."""
    for _ in range(BUSY_ATTEMPTS):
        began = time.perf_counter()
        if await store.drop_month("messages", kept) != BUSY:
            return time.perf_counter() - began
        await asyncio.sleep(BUSY_PAUSE_SECONDS)
    raise ProcessError("a month was in use all the time")


async def _write(tables: Tables, written: list[tuple[float, float]], done: asyncio.Event) -> None:
    owner = tables.filled.owner
    messages = PostgresMessages(tables.database, tables.keys)
    session_id = new_id()
    sessions = PostgresSessions(tables.database, tables.keys)
    await sessions.create(owner, session_id, SessionDraft(title="written"), None)
    while not done.is_set():
        said = NewMessage(new_id(), "user", b"\x2a\x00", "some words of a writer")
        began = time.perf_counter()
        await messages.append(owner, session_id, [said], turn_id=None, request=None)
        written.append((began, time.perf_counter()))
