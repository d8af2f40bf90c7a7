"""Calls on a real ledger: one outcome a call, announced before it runs (R-03, R-24, T7)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from meshwright_common.clock import SystemClock
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.errors import InvalidArgument
from meshwright_common.ids import new_id
from meshwright_common.storage.bootstrap import OWNER_SERVICE
from meshwright_common.storage.placement import place_tenant
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import key_ring
from meshwright_common.testing.engines import DatabaseSettingsFor, ServiceDatabase
from meshwright_tool_exec.adapters.postgres_effects import PostgresEffects
from meshwright_tool_exec.domain.errors import (
    CallNotFound,
    CallSuperseded,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolNotFound,
)
from meshwright_tool_exec.domain.execution import Execution, Started
from meshwright_tool_exec.domain.models import (
    Call,
    CallKey,
    CallScope,
    Effect,
    Outcome,
    ToolOutput,
    ToolSpec,
)
from meshwright_tool_exec.domain.registry import Registry, Tool

TENANT = new_id()
CALLER = Principal(TENANT, new_id(), "user", frozenset({"tool:execute"}))


@pytest.fixture(autouse=True)
def _caller() -> Iterator[None]:
    with bind(CallContext(principal=CALLER, request_id=new_id())):
        yield


@pytest_asyncio.fixture
async def database(service_database: ServiceDatabase) -> Database:
    return await service_database("meshwright_tool_exec")


class CountingTool:
    """A tool that counts its runs and can be held, refused or made to fail."""

    def __init__(
        self,
        effect: Effect = Effect.READ_ONLY,
        *,
        timeout_seconds: float = 5.0,
        permission: str = "",
    ) -> None:
        self.runs = 0
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.failure: ToolFailed | None = None
        self.result: object = {"ok": True}
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        self.tool = Tool(
            ToolSpec("count", "counts", schema, effect, timeout_seconds, permission=permission),
            self._run,
        )

    async def _run(self, arguments: dict[str, object], scope: CallScope) -> ToolOutput:
        self.runs += 1
        self.started.set()
        await self.release.wait()
        if self.failure is not None:
            raise self.failure
        return ToolOutput(self.result)


def a_call(arguments_json: str = '{"n": 1}') -> Call:
    return Call(CallKey(new_id(), 1, 0), "count", arguments_json, 1024, CallScope(TENANT))


def an_execution(database: Database, tool: CountingTool) -> Execution:
    effects = PostgresEffects(database, key_ring(database))
    return Execution(Registry([tool.tool]), effects, SystemClock())


async def _next(events: AsyncIterator[Started | Outcome]) -> Started | Outcome:
    return await anext(events)


async def outcome_of(execution: Execution, call: Call) -> Outcome:
    events = [event async for event in execution.execute(CALLER, call)]
    assert isinstance(events[0], Started)
    outcome = events[-1]
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.asyncio
async def test_a_repeated_call_returns_its_recorded_outcome_and_runs_nothing(
    database: Database,
) -> None:
    tool = CountingTool(Effect.NON_IDEMPOTENT)
    execution = an_execution(database, tool)
    call = a_call()
    first = await outcome_of(execution, call)
    again = await outcome_of(execution, call)
    assert 1 == tool.runs
    assert first == again
    assert (False, True) == (first.replayed, again.replayed)


@pytest.mark.asyncio
async def test_the_same_key_with_other_arguments_is_refused(database: Database) -> None:
    tool = CountingTool()
    execution = an_execution(database, tool)
    call = a_call()
    await outcome_of(execution, call)
    with pytest.raises(InvalidArgument) as refused:
        await outcome_of(execution, replace(call, arguments_json='{"n": 2}'))
    assert "call_index" == refused.value.field_violations[0].field
    assert 1 == tool.runs


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("effect", "runs"), [(Effect.READ_ONLY, 1), (Effect.IDEMPOTENT, 1), (Effect.NON_IDEMPOTENT, 0)]
)
async def test_a_call_interrupted_by_a_crash_is_sent_again_only_when_that_is_harmless(
    database: Database, effect: Effect, runs: int
) -> None:
    tool = CountingTool(effect)
    ledger = PostgresEffects(database, key_ring(database))
    call = a_call()
    await ledger.prepare(call, new_id(), effect)
    outcome = await outcome_of(an_execution(database, tool), call)
    assert runs == tool.runs
    assert (effect is Effect.NON_IDEMPOTENT) == ("OUTCOME_UNKNOWN" in outcome.result_json)


@pytest.mark.asyncio
async def test_a_tenant_with_its_own_schema_calls_tools_once_too(
    database_settings: DatabaseSettingsFor,
) -> None:
    """Its partitions have their columns in another order, as all of them have after a restore."""
    settings = await database_settings("meshwright_tool_exec")
    await place_tenant(settings.url_for(OWNER_SERVICE), "tool-exec", TENANT)
    async with open_database(settings, "tool-exec") as placed:
        tool, call = CountingTool(), a_call()
        first = await outcome_of(an_execution(placed, tool), call)
        again = await outcome_of(an_execution(placed, tool), call)
        assert (tool.runs, again) == (1, first)
        interrupted = a_call()
        ledger = PostgresEffects(placed, key_ring(placed))
        assert not (await ledger.prepare(interrupted, new_id(), Effect.READ_ONLY)).interrupted
        assert (await ledger.prepare(interrupted, new_id(), Effect.READ_ONLY)).interrupted


@pytest.mark.asyncio
async def test_a_run_that_was_taken_over_records_nothing(database: Database) -> None:
    ledger = PostgresEffects(database, key_ring(database))
    call = a_call()
    zombie, owner = new_id(), new_id()
    await ledger.prepare(call, zombie, Effect.READ_ONLY)
    await ledger.prepare(call, owner, Effect.READ_ONLY)
    outcome = Outcome("{}", is_error=False, truncated=False, duration_milliseconds=1)
    with pytest.raises(CallSuperseded):
        await ledger.record(TENANT, call.key, zombie, outcome)
    await ledger.record(TENANT, call.key, owner, outcome)
    with pytest.raises(CallSuperseded):
        await ledger.record(TENANT, call.key, owner, outcome)


@pytest.mark.asyncio
async def test_wrong_arguments_and_unknown_tools_leave_no_trace(database: Database) -> None:
    tool = CountingTool(permission="kb:read")
    execution = an_execution(database, tool)
    with pytest.raises(ToolNotFound):
        await outcome_of(execution, a_call())
    open_tool = CountingTool()
    with pytest.raises(ToolArgumentsInvalid):
        await outcome_of(an_execution(database, open_tool), a_call('{"n": "one"}'))
    async with unit_of_work(database, TENANT) as connection:
        assert 0 == await connection.fetchval(
            "SELECT count(*) FROM tool_exec.calls WHERE tenant_id = $1", TENANT
        )
    assert (0, 0) == (tool.runs, open_tool.runs)


@pytest.mark.asyncio
async def test_a_failing_a_slow_and_a_cancelled_tool_end_as_recorded_errors(
    database: Database,
) -> None:
    failing = CountingTool()
    failing.failure = ToolFailed("no such file")
    outcome = await outcome_of(an_execution(database, failing), a_call())
    assert outcome.is_error
    assert "no such file" in outcome.result_json

    slow = CountingTool(timeout_seconds=0.05)
    slow.release.clear()
    outcome = await outcome_of(an_execution(database, slow), a_call())
    assert "TOOL_TIMEOUT" in outcome.result_json

    held = CountingTool()
    held.release.clear()
    execution = an_execution(database, held)
    stranger = replace(CALLER, subject=new_id())
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        events = execution.execute(CALLER, a_call())
        started = await anext(events)
        assert isinstance(started, Started)
        ending = group.create_task(_next(events))
        await held.started.wait()
        with pytest.raises(CallNotFound):
            execution.cancel(stranger, started.call_id)
        execution.cancel(CALLER, started.call_id)
    last = ending.result()
    assert isinstance(last, Outcome)
    assert "cancelled" in last.result_json
    with pytest.raises(CallNotFound):
        execution.cancel(CALLER, started.call_id)


@pytest.mark.asyncio
async def test_a_long_result_is_cut_and_says_so(database: Database) -> None:
    tool = CountingTool()
    tool.result = "x" * 5000
    outcome = await outcome_of(an_execution(database, tool), a_call())
    assert outcome.truncated
    assert 1024 + 20 >= len(outcome.result_json)


@pytest.mark.asyncio
async def test_a_call_is_announced_to_the_audit_log_before_it_runs(database: Database) -> None:
    ledger = PostgresEffects(database, key_ring(database))
    await ledger.prepare(a_call(), new_id(), Effect.READ_ONLY)
    async with unit_of_work(database, TENANT) as connection:
        bodies = await connection.fetch(
            "SELECT body FROM events.outbox WHERE tenant_id = $1", TENANT
        )
    assert 1 == len(bodies)
    assert b'"tool.called"' in bytes(bodies[0]["body"])
