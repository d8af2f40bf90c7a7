"""Loads of a session's window of 200 messages and its context, by the level that has it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.durable_database import durable_server
from bench.measurement import Measurement
from bench.message_tables import LONG, fill
from bench.percentiles import summarise
from bench.processes import ProcessError
from bench.targets import Target
from meshwright.session.v1 import session_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.encryption import KeyRing
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings, ObjectSettings, RedisSettings
from meshwright_common.storage.embedded.valkey import EmbeddedValkey
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.redis import RedisClient, open_redis
from meshwright_common.testing.encryption import key_ring
from meshwright_session.adapters.memory_metrics import WINDOW_LOADS
from meshwright_session.app import make_archive
from meshwright_session.context_parts import ContextParts, context_exports, context_parts
from meshwright_session.domain.models import ContextChanges, MessageDraft, Owner
from meshwright_session.domain.windows import WINDOW_MESSAGES, Read, SessionKey
from meshwright_session.settings import SessionSection

NAME: Final = "context_load"
ABOUT: Final = (
    "a window of 200 messages and a context of 4 KiB, current and opened: from this process (l1), "
    "from Redis (l2), from PostgreSQL (cold), in µs; begin: the whole BeginTurn in ms, its commit "
    "included; l1: reads saved of messages and contexts in turns that also list and read the "
    "context; cold: all sessions at once after FLUSHALL in a new process, first and second turn"
)
SESSIONS: Final = 500
"""A fifth of them have more messages than a window."""
QUICK_SESSIONS: Final = 100
LOADS: Final[Mapping[Target, int]] = {Target.L1: 20_000, Target.L2: 2_000, Target.COLD: 1_000}
BEGINS: Final = 300
STICKY_TURNS: Final = 200
AT_ONCE: Final = 8
CONTEXT: Final = {f"fact {number}": "word " * 10 for number in range(64)}


@dataclass(frozen=True, slots=True)
class Stores:
    """What every process of the service shares."""

    database: Database
    redis: RedisClient
    objects: ObjectStore
    keys: KeyRing
    owner: Owner
    session_ids: tuple[str, ...]

    def process(self) -> ContextParts:
        """Return what a process has that just started: nothing in its memory."""
        section = SessionSection()
        return context_parts(
            self.database,
            self.keys,
            self.redis,
            context_exports(self.database, self.objects),
            make_archive(self.database, self.keys, self.objects, section),
            section,
        )

    async def turn(self, process: ContextParts, session_id: str) -> float:
        """Make a turn; return how many seconds its beginning took."""
        turn_id, question, answer = new_id(), _said("Why is that?"), _said("Because it is so.")
        began = time.perf_counter()
        await process.turns.begin(self.owner, session_id, turn_id, question, WINDOW_MESSAGES)
        taken = time.perf_counter() - began
        await process.turns.commit(
            self.owner, session_id, turn_id, [answer], ContextChanges({}), question
        )
        return taken


def _said(text: str) -> MessageDraft:
    part = message_pb2.ContentPart(text=text)
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
    stored = session_pb2.StoredMessage(message=message)
    return MessageDraft("user", stored.SerializeToString(), text)


def measure(*, repeats: int, quick: bool, scratch: Path) -> list[Measurement]:
    """Fill the tables once, then load in turns. Raises: ProcessError when a level has nothing."""
    with durable_server(scratch) as (settings, superuser_url), _valkey(scratch) as redis:
        return asyncio.run(
            _measure(settings, superuser_url, redis, scratch, repeats=repeats, quick=quick)
        )


@contextmanager
def _valkey(scratch: Path) -> Iterator[RedisSettings]:
    engine = EmbeddedValkey(
        scratch / "valkey", password=secrets.token_urlsafe(16), log=scratch / "valkey.log"
    )
    engine.start()
    try:
        yield RedisSettings(url=engine.url)
    finally:
        engine.stop()


async def _measure(
    settings: DatabaseSettings,
    superuser_url: str,
    redis_settings: RedisSettings,
    scratch: Path,
    *,
    repeats: int,
    quick: bool,
) -> list[Measurement]:
    async with (
        open_database(settings, "session") as database,
        open_redis(redis_settings) as redis,
        open_objects(ObjectSettings(url=(scratch / "objects").as_uri())) as objects,
    ):
        keys = key_ring(database)
        owner = Owner(new_id(), new_id())
        count = QUICK_SESSIONS if quick else SESSIONS
        tenant_keys = await keys.keys_of(owner.tenant_id)
        filled = await fill(superuser_url, tenant_keys, owner, sessions=count)
        stores = Stores(database, redis, objects, keys, owner, filled.long_sessions)
        process = stores.process()
        for session_id in stores.session_ids:
            await process.contexts.compare_and_set(owner, session_id, 0, CONTEXT)
        measurements = []
        for repeat in range(repeats):
            values = await _repeat(stores, quick=quick)
            measurements += [
                Measurement(NAME, target, repeat, one) for target, one in values.items()
            ]
        return measurements


async def _repeat(stores: Stores, *, quick: bool) -> dict[Target, dict[str, float]]:
    live = stores.process()
    for session_id in stores.session_ids:
        await stores.turn(live, session_id)
    await live.checkpoints.written()
    share = 10 if quick else 1
    values = {
        target: await _loads(stores, live, target, LOADS[target] // share) for target in LOADS
    }
    begins: dict[Target, list[float]] = {target: [] for target in LOADS}
    for number in range(BEGINS // share):
        session_id = stores.session_ids[number % len(stores.session_ids)]
        begins[Target.L1].append(await stores.turn(live, session_id))
        await live.checkpoints.written()
        begins[Target.L2].append(await stores.turn(stores.process(), session_id))
        begins[Target.COLD].append(await _cold_turn(stores, session_id))
        # The live process learns what the others added, and its checkpoint is whole again.
        await stores.turn(live, session_id)
    for target, taken in begins.items():
        summary = summarise(taken, scale=1000)
        values[target] |= {"begin_p50_ms": summary.p50, "begin_p99_ms": summary.p99}
    values[Target.L1] |= await _saved(stores, live, STICKY_TURNS // share)
    values[Target.COLD] |= await _after_flushall(stores)
    return values


async def _cold_turn(stores: Stores, session_id: str) -> float:
    process = stores.process()
    await process.checkpoints.drop(SessionKey.of(stores.owner, session_id))
    return await stores.turn(process, session_id)


async def _loads(
    stores: Stores, live: ContextParts, target: Target, count: int
) -> dict[str, float]:
    """Load sessions in turns; what is found has to be current, whole and of that level."""
    owner = stores.owner
    current = {}
    for session_id in stores.session_ids:
        current[session_id], _ = await live.store.current(owner, session_id, None)
    outside = stores.process()

    async def l1(session_id: str) -> object:
        return live.windows.here(SessionKey.of(owner, session_id))

    async def l2(session_id: str) -> object:
        return await outside.checkpoints.find(SessionKey.of(owner, session_id))

    async def cold(session_id: str) -> object:
        window, _ = await outside.store.current(owner, session_id, None)
        return window

    ways: dict[Target, Callable[[str], Awaitable[object]]] = {
        Target.L1: l1,
        Target.L2: l2,
        Target.COLD: cold,
    }
    load, times = ways[target], []
    for number in range(count):
        session_id = stores.session_ids[number % len(stores.session_ids)]
        began = time.perf_counter()
        window = await load(session_id)
        known = current[session_id]
        found = getattr(window, "stamp", None) == known.stamp and known.up_to(
            known.stamp.message_count, WINDOW_MESSAGES
        )
        times.append(time.perf_counter() - began)
        if not found or len(getattr(window, "messages", ())) != WINDOW_MESSAGES:
            raise ProcessError(f"{target}: a session of {LONG} messages was not found there")
    summary = summarise(times, scale=1_000_000)
    return {"load_mean_us": summary.mean, "load_p50_us": summary.p50, "load_p99_us": summary.p99}


async def _saved(stores: Stores, live: ContextParts, turns: int) -> dict[str, float]:
    """Talk in one session, listing messages and reading the context between the turns."""
    session_id = stores.session_ids[0]
    before = _counted()
    for _ in range(turns):
        await stores.turn(live, session_id)
        await live.contexts.get(stores.owner, session_id)
        await live.windows.current(stores.owner, session_id)
    loads = {read: count - before[read] for read, count in _counted().items()}
    return {"reads_saved_percent": loads[Read.NOTHING] / sum(loads.values()) * 100}


def _counted() -> dict[Read, float]:
    counts = dict.fromkeys(Read, 0.0)
    for metric in WINDOW_LOADS.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                counts[Read(sample.labels["read"])] += sample.value
    return counts


async def _after_flushall(stores: Stores) -> dict[str, float]:
    """Empty Redis, start a new process, and talk in all sessions, several at a time."""
    await stores.redis.flushall()
    process = stores.process()
    rounds: list[list[float]] = []
    seconds = 0.0
    for _ in range(2):
        taken: list[float] = []
        waiting = iter(stores.session_ids)

        async def talk(times: list[float], sessions: Iterator[str]) -> None:
            for session_id in sessions:
                times.append(await stores.turn(process, session_id))  # noqa: PERF401 -- in turns

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(talk(taken, waiting))
        seconds = seconds or time.perf_counter() - began
        rounds.append(taken)
    first, second = (summarise(one, scale=1000) for one in rounds)
    return {
        "after_flushall_first_p99_ms": first.p99,
        "after_flushall_second_p99_ms": second.p99,
        "all_sessions_back_seconds": seconds,
    }
