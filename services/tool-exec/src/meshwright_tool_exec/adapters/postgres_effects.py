"""The effect ledger in PostgreSQL."""

from typing import Final

from meshwright_common.context import principal
from meshwright_common.encryption import DIGEST_OF_BEFORE, KeyRing, SealedJson, TenantKeys
from meshwright_common.errors import invalid
from meshwright_common.events import audit
from meshwright_common.storage.postgres import Database, Record
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_tool_exec.domain.errors import CallSuperseded
from meshwright_tool_exec.domain.models import Call, CallKey, Effect, Outcome
from meshwright_tool_exec.domain.ports import Prepared

_TABLE: Final = "tool_exec.calls"

_COLUMNS: Final = """tool, arguments_digest, state, outcome, is_error, truncated,
    duration_milliseconds"""

# Two statements instead of one with DO UPDATE: whether a row was there could only be told by its
# xmax, which cannot be returned from a partition that has its columns in another order: a tenant's
# own, or any after a restore.
_PREPARE = f"""
INSERT INTO tool_exec.calls
    (tenant_id, task_id, step, call_index, tool, arguments_digest, effect, subject, run_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, task_id, step, call_index) DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608 - names of ours

_TAKE_OVER = f"""
UPDATE tool_exec.calls
SET run_id = CASE WHEN state = 'prepared' THEN $5 ELSE run_id END
WHERE tenant_id = $1 AND task_id = $2 AND step = $3 AND call_index = $4
RETURNING {_COLUMNS}
"""  # noqa: S608 - names of ours

_RECORD = """
UPDATE tool_exec.calls
SET state = 'done', outcome = $6, is_error = $7, truncated = $8,
    duration_milliseconds = $9, ended_at = now()
WHERE tenant_id = $1 AND task_id = $2 AND step = $3 AND call_index = $4
    AND run_id = $5 AND state = 'prepared'
"""


class PostgresEffects:
    """EffectLedger: the row is the intent, its run_id the fence, its outcome written once."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring

    async def prepare(self, call: Call, run_id: str, effect: Effect) -> Prepared:
        tenant_id = call.scope.tenant_id
        keys = await self._ring.keys_of(tenant_id)
        digest = keys.digest(call.arguments_json.encode("utf-8", "surrogatepass"))
        async with unit_of_work(self._database, tenant_id) as connection:
            row = await connection.fetchrow(
                _PREPARE,
                tenant_id,
                *_key(call.key),
                call.tool,
                digest,
                effect.value,
                principal().subject,
                run_id,
            )
            existed = row is None
            if row is None:
                row = await connection.fetchrow(_TAKE_OVER, tenant_id, *_key(call.key), run_id)
            if row is None:
                raise CallSuperseded("this call was erased meanwhile")
            is_same = row["arguments_digest"] in (digest, DIGEST_OF_BEFORE)
            if row["tool"] != call.tool or not is_same:
                raise invalid("call_index", "this step's call was made with other arguments")
            if row["state"] == "done":
                return Prepared(outcome=_outcome(row, call.key, keys))
            # Before the call, so that nothing runs that was not announced.
            await audit.record(
                connection,
                source="tool-exec",
                action="tool.called",
                resource=f"tool/{call.tool}",
                details={"task_id": call.key.task_id, "step": call.key.step, "run_id": run_id},
            )
            return Prepared(interrupted=existed)

    async def record(self, tenant_id: str, key: CallKey, run_id: str, outcome: Outcome) -> None:
        keys = await self._ring.keys_of(tenant_id)
        content = {
            "result_json": outcome.result_json,
            "citations_json": outcome.citations_json,
        }
        sealed = SealedJson(keys, _TABLE).seal("outcome", _row_id(key), content)
        async with unit_of_work(self._database, tenant_id) as connection:
            status = await connection.execute(
                _RECORD,
                tenant_id,
                *_key(key),
                run_id,
                sealed,
                outcome.is_error,
                outcome.truncated,
                outcome.duration_milliseconds,
            )
        if status != "UPDATE 1":
            raise CallSuperseded("another run of this call is recorded")


def _key(key: CallKey) -> tuple[str, int, int]:
    return key.task_id, key.step, key.call_index


def _row_id(key: CallKey) -> str:
    return f"{key.task_id}/{key.step}/{key.call_index}"


def _outcome(row: Record, key: CallKey, keys: TenantKeys) -> Outcome:
    content = SealedJson(keys, _TABLE).open("outcome", _row_id(key), row["outcome"])
    return Outcome(
        result_json=content["result_json"],
        is_error=row["is_error"],
        truncated=row["truncated"],
        duration_milliseconds=row["duration_milliseconds"],
        citations_json=tuple(content["citations_json"]),
    )
