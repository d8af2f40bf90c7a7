"""What tasks ask people, in PostgreSQL. An answer and its wake-up are one transaction."""

from collections.abc import Sequence
from typing import Final

from meshwright_common.context import principal
from meshwright_common.encryption import KeyRing, SealedJson, TenantKeys
from meshwright_common.events import audit
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.storage.postgres import Connection, Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_orchestrator.adapters import news
from meshwright_orchestrator.adapters.step_rows import question_from
from meshwright_orchestrator.adapters.task_ends import SOURCE
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.interrupts import (
    ANSWERED,
    Interrupt,
    OpenFilter,
    digest_of,
)
from meshwright_orchestrator.domain.waiting import Answer, InterruptKind

TABLE: Final = "orchestrator.interrupts"

_COLUMNS: Final = (
    "i.interrupt_id, i.task_id, i.subject, t.agent, t.session_id, i.question, i.state,"
    " i.created_at, i.expires_at, i.answer, i.request_id"
)
_FROM: Final = (
    "orchestrator.interrupts AS i JOIN orchestrator.tasks AS t"
    " ON t.tenant_id = i.tenant_id AND t.task_id = i.task_id"
)

_FIND: Final = f"""
SELECT {_COLUMNS} FROM {_FROM}
WHERE i.tenant_id = $1 AND i.task_id = $2 AND i.interrupt_id = $3
"""  # noqa: S608 - constant columns

_OPEN: Final = f"""
SELECT {_COLUMNS} FROM {_FROM}
WHERE i.tenant_id = $1 AND i.state = 'open' AND i.expires_at > clock_timestamp()
    AND ($2 = '' OR i.subject = $2)
    AND ($3::uuid IS NULL OR i.task_id = $3)
    AND ($4::timestamptz IS NULL OR (i.created_at, i.interrupt_id) > ($4, $5::uuid))
ORDER BY i.created_at, i.interrupt_id LIMIT $6
"""  # noqa: S608 - constant columns

_ANSWER: Final = """
UPDATE orchestrator.interrupts
SET state = 'answered', answer = $4, request_id = $5, closed_at = clock_timestamp()
WHERE tenant_id = $1 AND task_id = $2 AND interrupt_id = $3
    AND state = 'open' AND expires_at > clock_timestamp()
RETURNING true
"""


def sealed_answer(keys: TenantKeys, interrupt_id: str, value: JsonObject, subject: str) -> bytes:
    """Return what somebody answered for its column."""
    content = {"value": value, "answered_by": subject}
    return SealedJson(keys, TABLE).seal("answer", interrupt_id, content)


def answer_from(keys: TenantKeys, interrupt_id: str, sealed: bytes) -> Answer:
    """Return what `sealed_answer` sealed. Raises: SealBroken."""
    stored = SealedJson(keys, TABLE).open("answer", interrupt_id, sealed)
    return Answer(interrupt_id, stored["value"], stored["answered_by"])


class PostgresInterrupts:
    """Interrupts: see the port."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring

    async def find(self, tenant_id: str, task_id: str, interrupt_id: str) -> Interrupt | None:
        keys = await self._ring.keys_of(tenant_id)
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(_FIND, tenant_id, task_id, interrupt_id)
        return None if row is None else _interrupt_from(row, keys)

    async def open_of(self, tenant_id: str, wanted: OpenFilter) -> Sequence[Interrupt]:
        keys = await self._ring.keys_of(tenant_id)
        created_at, interrupt_id = wanted.after or (None, None)
        async with unit_of_work(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _OPEN,
                tenant_id,
                wanted.subject,
                wanted.task_id or None,
                created_at,
                interrupt_id,
                wanted.limit,
            )
        return [_interrupt_from(row, keys) for row in rows]

    async def answer(
        self, tenant_id: str, asked: Interrupt, value: JsonObject, request_id: str
    ) -> bool:
        keys = await self._ring.keys_of(tenant_id)
        sealed = sealed_answer(keys, asked.interrupt_id, value, principal().subject)
        async with unit_of_work(self._database, tenant_id) as connection:
            # First of all: whoever ends the task closes what it asked in the same order.
            await connection.execute(
                "SELECT orchestrator.lock_task($1, $2)", tenant_id, asked.task_id
            )
            answered = await connection.fetchval(
                _ANSWER, tenant_id, asked.task_id, asked.interrupt_id, sealed, request_id
            )
            if not answered:
                return False
            await _record(connection, asked, value)
            await connection.execute("SELECT orchestrator.wake($1, $2)", tenant_id, asked.task_id)
            news.tell_of(connection, asked.task_id)
        failpoint("interrupt-answered")
        return True


async def _record(connection: Connection, asked: Interrupt, value: JsonObject) -> None:
    """Tell the audit log who decided what: the call by its digest, no content."""
    question = asked.question
    details: dict[str, object] = {
        "interrupt_id": asked.interrupt_id,
        "kind": question.kind.value,
        "agent": asked.agent,
    }
    if question.kind is InterruptKind.APPROVAL:
        details["approved"] = value.get("approved") is True
    if question.call is not None:
        details |= {"tool": question.call.name, "call_sha256": digest_of(question.call)}
    await audit.record(
        connection,
        source=SOURCE,
        action="task.answered",
        resource=f"task/{asked.task_id}",
        details=details,
    )


def _interrupt_from(row: Record, keys: TenantKeys) -> Interrupt:
    interrupt_id = row["interrupt_id"]
    question = SealedJson(keys, TABLE).open("question", interrupt_id, row["question"])
    answered = row["state"] == ANSWERED
    return Interrupt(
        interrupt_id=interrupt_id,
        task_id=row["task_id"],
        subject=row["subject"],
        agent=row["agent"],
        session_id=row["session_id"] or "",
        question=question_from(question),
        state=row["state"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        answer=answer_from(keys, interrupt_id, row["answer"]) if answered else None,
        request_id=row["request_id"],
    )
