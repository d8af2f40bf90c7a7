"""Tables of sessions and messages, filled as the service would have: sealed, over a year."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from meshwright.session.v1 import session_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.encryption import TenantKeys
from meshwright_common.ids import new_id
from meshwright_common.storage.bootstrap import OWNER
from meshwright_session.adapters.sealed_messages import blinded, content_place
from meshwright_session.domain.models import Owner

MONTHS: Final = 12
"""Before this one; messages lie in them evenly."""
MESSAGES_A_SESSION: Final = 100
"""On average: of five sessions one is LONG and four are SHORT."""
LONG: Final = 260
SHORT: Final = 60
VOCABULARY: Final = 5000
_WORDS_A_MESSAGE: Final = 8
_SESSIONS_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Filled:
    """Tables of one owner. `long_sessions` have LONG messages each."""

    owner: Owner
    long_sessions: tuple[str, ...]


def word(number: int) -> str:
    """Return one of the VOCABULARY words that messages are found by."""
    return f"word{number}"


async def fill(superuser_url: str, keys: TenantKeys, owner: Owner, *, sessions: int) -> Filled:
    """Fill empty tables with an owner and so many of its sessions."""
    connection = await asyncpg.connect(superuser_url, timeout=10)
    try:
        await connection.execute("SET search_path = session, public; SET timezone = 'UTC'")
        # Whoever moves or drops months is their owner.
        await connection.execute(f"SET ROLE {OWNER}")
        await connection.execute(_MAKE_MONTHS)
        await connection.execute("RESET ROLE")
        await connection.execute(_TENANT, owner.tenant_id, owner.user_id)
        await connection.execute(_USER, owner.tenant_id, owner.user_id)
        # Building it at the end is faster than adding to it.
        await connection.execute("DROP INDEX messages_words")
        long_sessions = await _copy(connection, keys, owner, sessions)
        await connection.execute(
            "CREATE INDEX messages_words ON messages USING gin (words)", timeout=600
        )
        await connection.execute("VACUUM ANALYZE messages, sessions", timeout=600)
    finally:
        await connection.close()
    return Filled(owner, tuple(long_sessions))


async def _copy(
    connection: asyncpg.Connection[asyncpg.Record], keys: TenantKeys, owner: Owner, sessions: int
) -> list[str]:
    dice = random.Random(4)  # noqa: S311 - the same tables each time
    vocabulary = blinded(keys, owner.user_id, map(word, range(VOCABULARY)))
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    long_sessions = []
    for first in range(0, sessions, _SESSIONS_AT_ONCE):
        made: list[tuple[object, ...]] = []
        said: list[tuple[object, ...]] = []
        for number in range(first, min(first + _SESSIONS_AT_ONCE, sessions)):
            session_id = new_id()
            count = SHORT if number % 5 else LONG
            if count == LONG:
                long_sessions.append(session_id)
            ago = number // 5 % MONTHS + 1
            start = _months_before(month, ago) + timedelta(seconds=dice.randrange(27 * 86_400))
            end = start + timedelta(seconds=count)
            made.append(
                (owner.tenant_id, session_id, owner.user_id, "", [], "{}", count, start, end)
            )
            said += _messages(keys, owner, session_id, count, start, vocabulary, dice)
        await connection.copy_records_to_table("sessions", records=made, columns=_SESSION_COLUMNS)
        await connection.copy_records_to_table(
            "messages", records=said, columns=_MESSAGE_COLUMNS, timeout=120
        )
    return long_sessions


def _messages(
    keys: TenantKeys,
    owner: Owner,
    session_id: str,
    count: int,
    start: datetime,
    vocabulary: list[str],
    dice: random.Random,
) -> Iterator[tuple[object, ...]]:
    for sequence in range(1, count + 1):
        message_id = new_id()
        role = message_pb2.ROLE_USER if sequence % 2 else message_pb2.ROLE_ASSISTANT
        part = message_pb2.ContentPart(text=f"message {sequence} " + "with some words " * 12)
        content = session_pb2.StoredMessage(message=message_pb2.Message(role=role, parts=[part]))
        yield (
            owner.tenant_id,
            session_id,
            start + timedelta(seconds=sequence),
            sequence,
            message_id,
            "user" if sequence % 2 else "assistant",
            keys.seal(content_place(message_id), content.SerializeToString()),
            dice.sample(vocabulary, _WORDS_A_MESSAGE),
        )


def _months_before(month: datetime, count: int) -> datetime:
    years, index = divmod(month.year * 12 + month.month - 1 - count, 12)
    return month.replace(year=years, month=index + 1)


_SESSION_COLUMNS: Final = (
    "tenant_id", "session_id", "user_id", "agent", "knowledge_base_ids", "metadata",
    "message_count", "create_time", "update_time",
)  # fmt: skip
_MESSAGE_COLUMNS: Final = (
    "tenant_id", "session_id", "create_time", "sequence", "message_id", "role", "content", "words",
)  # fmt: skip

_TENANT: Final = """
INSERT INTO tenants (tenant_id, slug, display_name, plan, first_owner_id)
VALUES ($1, 'bench', 'bench', 'enterprise', $2)
"""
_USER: Final = """
INSERT INTO users (tenant_id, user_id, name, roles) VALUES ($1, $2, 'bench', '{owner}')
"""

_MAKE_MONTHS: Final = """
DO $do$
DECLARE
    v_ranges regclass;
    v_month timestamptz;
BEGIN
    DROP TABLE messages_earlier;
    SELECT ranges INTO v_ranges FROM events.range_tables('session.messages') AS ranges;
    FOR ago IN 1..MONTHS LOOP
        v_month := date_trunc('month', now()) - make_interval(months => ago);
        PERFORM add_partition(
            v_ranges, to_char(v_month, 'YYYY_MM'), v_month, v_month + interval '1 month'
        );
    END LOOP;
END
$do$
""".replace("MONTHS", str(MONTHS))
