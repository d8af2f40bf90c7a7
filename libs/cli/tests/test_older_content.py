"""A database of before content was sealed: all of it is there afterwards, and sealed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import orjson
import pytest
import pytest_asyncio

from meshwright_chat.adapters.postgres_turns import PostgresTurns
from meshwright_cli.engines.sealing import seal_older_content
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.migrations import load, migrate
from meshwright_common.storage.postgres import open_database, schema_of
from meshwright_common.testing.encryption import encryption_settings, key_ring
from meshwright_common.testing.engines import DatabaseSettingsFor, execute_as_owner, service_of
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.domain.conversation import Text
from meshwright_orchestrator.domain.journal import Recalled
from meshwright_tool_exec.adapters.postgres_effects import PostgresEffects
from meshwright_tool_exec.domain.models import Call, CallKey, CallScope, Effect

pytestmark = pytest.mark.asyncio

SAID: Final = 'it\'s a \N{GRINNING FACE} \\ "quoted" word\nof old'
CITATION: Final = {
    "number": 1,
    "document_id": "d",
    "document_name": "book",
    "page": 3,
    "start_offset": 10,
    "end_offset": 20,
    "quote": SAID,
    "score": 0.25,
    "chunk_id": "c",
    "heading_path": ["Part"],
}
OWNER: Final = {"kind": "user", "permissions": ["agent:execute"], "roles": []}


@dataclass
class Older:
    """A database whose services stand at the version before; `new` brings it up to date."""

    settings: DatabaseSettings
    tenant_id: str = field(default_factory=new_id)
    row_id: str = field(default_factory=new_id)

    async def make(self, package: str, last: str, statement: str, *values: object) -> None:
        """Make the tables up to the migration `last`, with one row."""
        schema = schema_of(service_of(package))
        await execute_as_owner(
            self.settings,
            f"CREATE TABLE {schema}.schema_migrations (name text PRIMARY KEY,"
            " sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
        )
        connection = await asyncpg.connect(
            self.settings.url_for("owner"), server_settings={"search_path": f"{schema}, public"}
        )
        try:
            for migration in load(package):
                if migration.name > last:
                    break
                await connection.execute(migration.sql)
                await connection.execute(
                    f"INSERT INTO {schema}.schema_migrations (name, sha256) VALUES ($1, $2)",  # noqa: S608 - a name of ours
                    migration.name,
                    migration.sha256,
                )
            await connection.execute(statement, self.tenant_id, self.row_id, *values)
        finally:
            await connection.close()

    async def renew(self, package: str) -> int:
        """Apply the later migrations as `up` does; return how many rows were sealed."""
        await migrate(self.settings.url_for("owner"), service_of(package), package)
        return await seal_older_content(self.settings, encryption_settings())


@pytest_asyncio.fixture
async def older(database_settings: DatabaseSettingsFor) -> AsyncIterator[Older]:
    older = Older(await database_settings())
    with bind(CallContext(Principal(older.tenant_id, new_id(), "user", frozenset()))):
        yield older


@pytest.mark.promise("SEAL-02")
async def test_turns_of_before_are_read_as_they_were(older: Older) -> None:
    await older.make(
        "meshwright_chat",
        "0001_turns.sql",
        "INSERT INTO chat.turns (tenant_id, turn_id, session_id, subject, owner, agent, question,"
        " metadata, request_id, request_sha256, state, answer, citations, ended_at,"
        " lease_expires_at) VALUES ($1, $2, $2, 'u', $3, 'chat', $4, $5, 'r', sha256('plain'),"
        " 'completed', $4, $6, now(), now())",
        orjson.dumps(OWNER).decode(),
        SAID,
        orjson.dumps({"note": SAID}).decode(),
        orjson.dumps([CITATION]).decode(),
    )
    assert await older.renew("meshwright_chat") == 2
    async with open_database(older.settings, "chat") as database:
        turns = PostgresTurns(database, key_ring(database), lease_seconds=1)
        turn = await turns.find(older.tenant_id, older.row_id)
    assert (turn.question, turn.answer, turn.citations[0].quote) == (SAID, SAID, SAID)


@pytest.mark.promise("SEAL-02")
async def test_tasks_of_before_go_on_as_they_were(older: Older) -> None:
    spec = {
        "agent": "chat",
        "session_id": "",
        "model": "",
        "knowledge_base_ids": [],
        "max_steps": 0,
        "deadline": None,
        "priority": "normal",
        "input": {"x": SAID},
        "metadata": {},
    }
    messages = [{"role": "user", "parts": [{"text": SAID + "\0"}]}]
    await older.make(
        "meshwright_orchestrator",
        "0002_dispatch.sql",
        "WITH task AS (INSERT INTO orchestrator.tasks (tenant_id, task_id, subject, owner,"
        " correlation_id, agent, spec, messages, limits, engine_version, request_sha256, state,"
        " lease_expires_at, deadline_at) VALUES ($1, $2, 'u', $3, 'c', 'chat', $4, $5, $6, 1,"
        " sha256('plain'), 'running', now(), now()) RETURNING tenant_id, task_id)"
        " INSERT INTO orchestrator.steps (tenant_id, task_id, step, attempt, engine_version, kind,"
        " outcome) SELECT tenant_id, task_id, 1, 1, 1, 'recall', $7 FROM task",
        orjson.dumps(OWNER).decode(),
        orjson.dumps(spec).decode(),
        orjson.dumps(messages).decode(),
        orjson.dumps({"max_steps": 3, "history_tokens": 100, "recall_top_k": 1}).decode(),
        orjson.dumps({"passages": [CITATION], "degraded": []}).decode(),
    )
    assert await older.renew("meshwright_orchestrator") == 3
    async with open_database(older.settings, "orchestrator") as database:
        tasks = PostgresTasks(database, key_ring(database), lease_seconds=1, default_seconds=1)
        task, (step,) = await tasks.read(older.tenant_id, older.row_id, after_step=0)
    assert task.spec.input == {"x": SAID}
    assert task.spec.messages[0].parts == (Text(SAID + "\0"),)
    assert isinstance(step.outcome, Recalled)
    assert step.outcome.passages[0].quote == SAID


@pytest.mark.promise("SEAL-02")
async def test_tools_that_ran_before_are_not_run_again(older: Older) -> None:
    await older.make(
        "meshwright_tool_exec",
        "0001_calls.sql",
        "INSERT INTO tool_exec.calls (tenant_id, task_id, step, call_index, tool,"
        " arguments_sha256, effect, subject, run_id, state, result_json, citations_json)"
        " VALUES ($1, $2, 1, 0, 'add', sha256('plain'), 'idempotent', 'u', $2, 'done', $3, $4)",
        orjson.dumps(SAID).decode(),
        [orjson.dumps(CITATION).decode()],
    )
    assert await older.renew("meshwright_tool_exec") == 1
    async with open_database(older.settings, "tool-exec") as database:
        effects = PostgresEffects(database, key_ring(database))
        key = CallKey(older.row_id, 1, 0)
        call = Call(key, "add", "{}", 1000, CallScope(older.tenant_id))
        prepared = await effects.prepare(call, new_id(), Effect.IDEMPOTENT)
    assert prepared.outcome is not None
    assert orjson.loads(prepared.outcome.result_json) == SAID
    assert orjson.loads(prepared.outcome.citations_json[0])["quote"] == SAID
