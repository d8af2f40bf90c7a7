"""Composition of what serves turns and contexts: three levels of memory, and the history."""

from __future__ import annotations

import time
from dataclasses import dataclass

from meshwright_common.encryption import KeyRing
from meshwright_common.storage.objects import ObjectStore
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import RedisClient
from meshwright_session.adapters.context_exports import ContextExports
from meshwright_session.adapters.context_history import ContextHistory
from meshwright_session.adapters.l1_cache import L1Cache
from meshwright_session.adapters.memory_metrics import count_load
from meshwright_session.adapters.postgres_contexts import PostgresContexts
from meshwright_session.adapters.postgres_turns import PostgresTurns
from meshwright_session.adapters.postgres_withdrawals import PostgresWithdrawals
from meshwright_session.adapters.redis_checkpoint import Lifetimes, RedisCheckpoints
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.context_schema import SCHEMA, ContextSchema
from meshwright_session.domain.contexts import Contexts
from meshwright_session.domain.live_windows import LiveWindows
from meshwright_session.domain.turns import Turns
from meshwright_session.domain.withdrawals import Withdrawals
from meshwright_session.settings import SessionSection


@dataclass(frozen=True, slots=True)
class ContextParts:
    """What others are built from."""

    archive: Archive
    store: PostgresTurns
    turns: Turns
    withdrawals: Withdrawals
    contexts: Contexts
    windows: LiveWindows
    cache: L1Cache
    checkpoints: RedisCheckpoints


def context_parts(
    database: Database,
    ring: KeyRing,
    redis: RedisClient,
    exports: ContextExports,
    archive: Archive,
    settings: SessionSection,
    *,
    schema: ContextSchema = SCHEMA,
) -> ContextParts:
    """Build it on open connections."""
    own = settings.context
    history = ContextHistory(own.versions_kept, own.windows_kept, own.window_seconds)
    store = PostgresTurns(database, ring, schema, history, summary_turns=settings.summary_turns)
    cache = L1Cache(own.l1_bytes, own.session_lifetime_seconds, time.monotonic)
    lifetimes = Lifetimes(own.session_lifetime_seconds, own.context_lifetime_seconds)
    checkpoints = RedisCheckpoints(redis, ring, lifetimes, schema.current, time.monotonic)
    windows = LiveWindows(store, cache, checkpoints, count_load)
    contexts = Contexts(PostgresContexts(database, ring, schema, history, exports), windows)
    turns = Turns(store, windows, archive)
    withdrawals = Withdrawals(PostgresWithdrawals(database), windows, archive)
    return ContextParts(archive, store, turns, withdrawals, contexts, windows, cache, checkpoints)


def context_exports(database: Database, objects: ObjectStore) -> ContextExports:
    """Build what copies contexts to the object store."""
    return ContextExports(database, objects)
