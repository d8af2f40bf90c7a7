"""What a superuser may do to an audit log, as cleverly as without the signing key."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, cast

import asyncpg

from meshwright_common.identity.signing import ephemeral_record_signer
from meshwright_common.ids import new_id
from meshwright_session.adapters.checkpoint_objects import CheckpointObjects
from meshwright_session.adapters.postgres_audit import PostgresAuditReader
from meshwright_session.adapters.postgres_checkpoints import PostgresCheckpoints
from meshwright_session.domain.audit_chain import Place, link, place_of
from meshwright_session.domain.audit_checkpoints import Checkpoint, sign_anchor, sign_checkpoint
from meshwright_session.domain.audit_verification import AuditVerifier, Verdict
from services.session.tests.audit_log import AuditLogs

COVERED: Final = 9
RECORDS: Final = 11
"""Records of the log; so many of them are covered by checkpoints, three each."""
FOREIGN: Final = ephemeral_record_signer()
"""A key that is not ours."""


@dataclass
class Tampered:
    """A log that a test may do anything to: what it does to the tables is rolled back."""

    logs: AuditLogs
    tenant_id: str
    other_id: str
    connection: asyncpg.Connection[asyncpg.Record]
    vault: CheckpointObjects
    verifier: AuditVerifier
    reader: PostgresAuditReader
    checkpoints: PostgresCheckpoints
    random: random.Random

    async def do(self, statement: str, *values: object) -> None:
        """Change the tenant's rows; $1 is the tenant. Something has to change."""
        done = await self.connection.execute(statement, self.tenant_id, *values)
        assert not done.endswith(" 0"), statement

    async def verdict(self) -> Verdict:
        return await self.verifier.verify(self.tenant_id)

    def record(self) -> int:
        """A random record's sequence."""
        return self.random.randint(1, RECORDS)

    def covered(self) -> int:
        """A random record that a checkpoint covers."""
        return self.random.randint(1, COVERED)

    def checkpoint(self) -> int:
        """A random checkpoint's number."""
        return self.random.randint(1, 3)

    async def write_copy(self, number: int, text: str) -> None:
        """Write a text where the copy of a checkpoint is."""
        await self.vault.remove(self.tenant_id, number)
        stand_in = cast(Checkpoint, _Text(self.tenant_id, number, text))
        assert await self.vault.put(stand_in, keep_until=self.logs.clock.now())


@dataclass(frozen=True)
class _Text:
    tenant_id: str
    number: int
    object_text: str


Tampering = Callable[[Tampered], Awaitable[int | None]]
"""Does something to a log; returns the first bad sequence if it is to be exactly that one."""

COLUMNS: Final = {
    "sequence": "sequence + 100",
    "event_id": "gen_random_uuid()",
    "time": "time - interval '1 us'",
    "filed_at": "filed_at + interval '1 us'",
    "actor": "actor || ' '",
    "action": "'document.read'",
    "resource": "upper(resource)",
    "outcome": "'denied'",
    "source": "''",
    "request_id": "'x'",
    "details": "replace(details, ':', ': ')",
    "previous_hash": "sha256('x')",
    "hash": "sha256('x')",
}


async def change_a_column(log: Tampered) -> int:
    place, column = log.record(), log.random.choice([*COLUMNS])
    await log.do(
        f"UPDATE audit_records SET {column} = {COLUMNS[column]}"  # noqa: S608 - of COLUMNS
        " WHERE tenant_id = $1 AND sequence = $2",
        place,
    )
    return place


async def remove_a_record(log: Tampered) -> int:
    place = log.record()
    await log.do("DELETE FROM audit_records WHERE tenant_id = $1 AND sequence = $2", place)
    return place


async def remove_the_beginning(log: Tampered) -> int:
    await log.do("DELETE FROM audit_records WHERE tenant_id = $1 AND sequence <= $2", log.record())
    return 1


async def give_a_record_to_another_tenant(log: Tampered) -> int:
    place = log.record()
    await log.do(
        "UPDATE audit_records SET tenant_id = $3 WHERE tenant_id = $1 AND sequence = $2",
        place,
        new_id(),
    )
    return place


async def swap_two_records(log: Tampered) -> int:
    first, second = sorted(log.random.sample(range(1, RECORDS + 1), 2))
    move = "UPDATE audit_records SET sequence = $3 WHERE tenant_id = $1 AND sequence = $2"
    await log.do(move, first, 1000)
    await log.do(move, second, first)
    await log.do(move, 1000, second)
    return first


_AT_ONCE: Final = timedelta(0)
_AN_INSTANT_LATER: Final = timedelta(microseconds=1)
_COPY: Final = """
INSERT INTO audit_records
SELECT tenant_id, $3, gen_random_uuid(), time, filed_at + $4::interval, actor, action, resource,
       outcome, source, request_id, details, previous_hash, hash
  FROM audit_records WHERE tenant_id = $1 AND sequence = $2
"""


async def add_a_copy_at_the_end(log: Tampered) -> int:
    await log.connection.execute(_COPY, log.tenant_id, log.record(), RECORDS + 1, _AT_ONCE)
    return RECORDS + 1


async def add_a_copy_beside(log: Tampered) -> int:
    """The same sequence twice, filed at another time: no key forbids it."""
    place = log.record()
    await log.connection.execute(_COPY, log.tenant_id, place, place, _AN_INSTANT_LATER)
    return place


async def cut_the_tail(log: Tampered) -> None:
    """As well as one can without the copies: end and checkpoints are mended."""
    place = log.random.randint(0, COVERED - 1)
    await _cut(log, place)


async def set_back(log: Tampered) -> None:
    """What a restored backup looks like."""
    await _cut(log, log.random.choice([3, 6]))


async def cut_the_tail_and_the_copies(log: Tampered) -> None:
    """Copies may go where nothing locks them; then rows tell of them."""
    place = log.random.randint(0, COVERED - 1)
    await log.do("DELETE FROM audit_records WHERE tenant_id = $1 AND sequence > $2", place)
    await _mend_the_end(log, place)
    for number in range(place // 3 + 1, 4):
        await log.vault.remove(log.tenant_id, number)


async def _cut(log: Tampered, place: int) -> None:
    await log.do("DELETE FROM audit_records WHERE tenant_id = $1 AND sequence > $2", place)
    await log.do("DELETE FROM audit_checkpoints WHERE tenant_id = $1 AND sequence > $2", place)
    await _mend_the_end(log, place)
    await log.do(
        "UPDATE audit_heads h SET checkpoint_number = coalesce(c.number, 0),"
        " checkpoint_sequence = coalesce(c.sequence, 0),"
        " checkpoint_time = coalesce(c.time, 'epoch')"
        " FROM (VALUES (1)) always LEFT JOIN (SELECT * FROM audit_checkpoints WHERE tenant_id = $1"
        " ORDER BY number DESC LIMIT 1) c ON true WHERE h.tenant_id = $1"
    )


async def _mend_the_end(log: Tampered, place: int) -> None:
    await log.do(
        "UPDATE audit_heads h SET sequence = $2, hash = coalesce(r.hash, decode(repeat('00', 32),"
        " 'hex')), filed_at = coalesce(r.filed_at, 'epoch') FROM (VALUES (1)) always LEFT JOIN"
        " audit_records r ON r.tenant_id = $1 AND r.sequence = $2 WHERE h.tenant_id = $1",
        place,
    )


HEAD: Final = {
    "sequence": "sequence - 1",
    "hash": "sha256('x')",
    "filed_at": "filed_at + interval '1 s'",
    "checkpoint_number": "checkpoint_number + 1",
    "checkpoint_sequence": "checkpoint_sequence + 1",
    "checkpoint_time": "checkpoint_time + interval '1 year'",
    "tenant_id": "gen_random_uuid()",
}


async def change_the_head(log: Tampered) -> None:
    column = log.random.choice([*HEAD])
    await log.do(f"UPDATE audit_heads SET {column} = {HEAD[column]} WHERE tenant_id = $1")  # noqa: S608


async def remove_the_head(log: Tampered) -> None:
    await log.do("DELETE FROM audit_heads WHERE tenant_id = $1")


CHECKPOINT: Final = {
    "number": "number + 100",
    "sequence": "sequence - 1",
    "time": "time + interval '1 s'",
    "document": "replace(document, '\"record_count\":3', '\"record_count\":4')",
    "signature": "sha256('x') || sha256('y')",
    "tenant_id": "gen_random_uuid()",
}


async def change_a_checkpoint(log: Tampered) -> None:
    column = log.random.choice([*CHECKPOINT])
    await log.do(
        f"UPDATE audit_checkpoints SET {column} = {CHECKPOINT[column]}"  # noqa: S608
        " WHERE tenant_id = $1 AND number = $2",
        log.checkpoint(),
    )


async def remove_a_checkpoint(log: Tampered) -> None:
    await log.do(
        "DELETE FROM audit_checkpoints WHERE tenant_id = $1 AND number = $2", log.checkpoint()
    )


async def remove_the_last_checkpoint_and_its_mention(log: Tampered) -> None:
    await log.do("DELETE FROM audit_checkpoints WHERE tenant_id = $1 AND number = 3")
    await log.do(
        "UPDATE audit_heads h SET checkpoint_number = c.number, checkpoint_sequence = c.sequence,"
        " checkpoint_time = c.time FROM audit_checkpoints c"
        " WHERE h.tenant_id = $1 AND c.tenant_id = $1 AND c.number = 2"
    )


async def remove_a_copy(log: Tampered) -> None:
    await log.vault.remove(log.tenant_id, log.checkpoint())


async def change_a_copy(log: Tampered) -> None:
    number = log.checkpoint()
    text = await log.vault.text(log.tenant_id, number) or ""
    at = log.random.randrange(len(text))
    other = "0" if text[at] != "0" else "1"
    await log.write_copy(number, text[:at] + other + text[at + 1 :])


async def swap_two_copies(log: Tampered) -> None:
    first, second = log.random.sample([1, 2, 3], 2)
    texts = [await log.vault.text(log.tenant_id, one) or "" for one in (first, second)]
    await log.write_copy(first, texts[1])
    await log.write_copy(second, texts[0])


async def add_a_copy(log: Tampered) -> None:
    await log.write_copy(4, await log.vault.text(log.tenant_id, 3) or "")


async def rewrite_from_a_place_on(log: Tampered) -> int:
    """The chain is whole again afterwards, its end too: only checkpoints know better."""
    place = log.covered()
    await _rewrite(log, place)
    return (place - 1) // 3 * 3 + 1


async def rewrite_and_sign_with_another_key(log: Tampered) -> None:
    await _rewrite(log, log.covered())
    await _sign_anew(log)


async def _rewrite(log: Tampered, place: int) -> None:
    records = await log.reader.chain(log.tenant_id, place - 1, RECORDS, RECORDS)
    before = await log.reader.chain(log.tenant_id, place - 2, place - 1, 1)
    end = place_of(before[0]) if before else Place()
    for record in records:
        entry = record.entry
        if record.sequence == place:
            entry = replace(entry, actor="somebody else")
        linked = link(entry, end, now=log.logs.clock.now())
        end = place_of(linked)
        await log.do(
            "UPDATE audit_records SET actor = $3, previous_hash = $4, hash = $5"
            " WHERE tenant_id = $1 AND sequence = $2",
            *(linked.sequence, entry.actor, linked.previous_hash, linked.hash),
        )
    await _mend_the_end(log, RECORDS)


async def _sign_anew(log: Tampered) -> None:
    """Put checkpoints with a key of one's own in place of all, copies included."""
    previous: Checkpoint | None = None
    head = await log.reader.head(log.tenant_id)
    for number in (1, 2, 3):
        [record] = await log.reader.chain(log.tenant_id, number * 3 - 1, number * 3, 1)
        old = await log.checkpoints.get(log.tenant_id, number)
        assert old is not None
        previous = sign_checkpoint(
            log.tenant_id,
            replace(head, place=place_of(record)),
            previous,
            now=old.time,
            signer=FOREIGN,
        )
        await log.do(
            "UPDATE audit_checkpoints SET document = $3, signature = $4"
            " WHERE tenant_id = $1 AND number = $2",
            *(number, previous.document, previous.signature),
        )
        await log.write_copy(number, previous.object_text)


async def put_another_tenants_log_in_place(log: Tampered) -> int:
    """A log that is whole, of somebody else, checkpoints and copies too."""
    for table in ("audit_records", "audit_heads", "audit_checkpoints"):
        await log.do(f"DELETE FROM {table} WHERE tenant_id = $1")  # noqa: S608 - a name of ours
        await log.do(
            f"UPDATE {table} SET tenant_id = $1 WHERE tenant_id = $2",  # noqa: S608
            log.other_id,
        )
    for number in (1, 2, 3):
        await log.write_copy(number, await log.vault.text(log.other_id, number) or "")
    return 1


async def drop_the_beginning_with_an_anchor_of_ones_own(log: Tampered) -> None:
    place = log.covered()
    [record] = await log.reader.chain(log.tenant_id, place - 1, place, 1)
    anchor = sign_anchor(log.tenant_id, place_of(record), now=log.logs.clock.now(), signer=FOREIGN)
    document, signature = anchor.document, anchor.signature
    if log.random.random() < 0.5:
        # One of our own signatures, made for something else.
        checkpoint = await log.checkpoints.get(log.tenant_id, 1)
        assert checkpoint is not None
        document = document.replace(FOREIGN.key_id, log.logs.signer.key_id)
        signature = checkpoint.signature
    await log.connection.execute(
        "INSERT INTO audit_anchors VALUES ($1, $2, $3, $4)",
        *(log.tenant_id, place, document, signature),
    )
    await log.do("DELETE FROM audit_records WHERE tenant_id = $1 AND sequence <= $2", place)


TAMPERINGS: Final[tuple[Tampering, ...]] = (
    # As often as there are columns.
    *([change_a_column] * len(COLUMNS)),
    remove_a_record,
    remove_the_beginning,
    give_a_record_to_another_tenant,
    swap_two_records,
    add_a_copy_at_the_end,
    add_a_copy_beside,
    *([cut_the_tail] * 3),
    set_back,
    cut_the_tail_and_the_copies,
    *([change_the_head] * len(HEAD)),
    remove_the_head,
    *([change_a_checkpoint] * len(CHECKPOINT)),
    remove_a_checkpoint,
    remove_the_last_checkpoint_and_its_mention,
    remove_a_copy,
    change_a_copy,
    swap_two_copies,
    add_a_copy,
    *([rewrite_from_a_place_on] * 3),
    rewrite_and_sign_with_another_key,
    put_another_tenants_log_in_place,
    drop_the_beginning_with_an_anchor_of_ones_own,
)
