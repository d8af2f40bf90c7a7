"""Running a call: find, check, record the intent, run under limits, record the outcome once."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from meshwright_common.clock import Clock
from meshwright_common.context import Principal
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_tool_exec.domain import arguments
from meshwright_tool_exec.domain.errors import CallNotFound, ToolFailed, ToolTimeout
from meshwright_tool_exec.domain.models import Call, Effect, Outcome, ToolOutput
from meshwright_tool_exec.domain.ports import EffectLedger
from meshwright_tool_exec.domain.registry import Registry, Tool


@dataclass(frozen=True, slots=True)
class Started:
    """The call is recorded; `call_id` cancels it."""

    call_id: str


@dataclass(frozen=True, slots=True)
class _Running:
    tenant_id: str
    subject: str
    task: asyncio.Task[ToolOutput | ServiceError]


class Execution:
    """Runs calls and knows those that are running in this process."""

    def __init__(self, registry: Registry, ledger: EffectLedger, clock: Clock) -> None:
        self._registry = registry
        self._ledger = ledger
        self._clock = clock
        self._running: dict[str, _Running] = {}

    async def execute(self, caller: Principal, call: Call) -> AsyncIterator[Started | Outcome]:
        """Run `call` and yield Started, then its Outcome. A recorded call only yields its outcome.

        A tool that fails has an outcome with `is_error`. Leaving the iterator stops the tool.
        Raises: ToolNotFound, ToolArgumentsInvalid before anything is recorded; Unavailable.
        """
        tool = self._registry.find(caller, call.tool)
        parsed = arguments.parse(call.arguments_json)
        tool.check(parsed, tool.spec.input_schema)
        run_id = new_id()
        prepared = await self._ledger.prepare(call, run_id, tool.spec.effect)
        yield Started(run_id)
        if prepared.outcome is not None:
            yield replace(prepared.outcome, replayed=True)
            return
        if prepared.interrupted and tool.spec.effect is Effect.NON_IDEMPOTENT:
            outcome = _unknown_outcome()
        else:
            outcome = await self._run(caller, call, tool, parsed, run_id)
        await self._ledger.record(call.scope.tenant_id, call.key, run_id, outcome)
        yield outcome

    def cancel(self, caller: Principal, call_id: str) -> None:
        """Stop a running call of the same user. Raises: CallNotFound."""
        running = self._running.get(call_id)
        if running is None or (running.tenant_id, running.subject) != (
            caller.tenant_id,
            caller.subject,
        ):
            raise CallNotFound
        running.task.cancel()

    async def _run(
        self, caller: Principal, call: Call, tool: Tool, parsed: dict[str, object], run_id: str
    ) -> Outcome:
        began = self._clock.monotonic()
        try:
            output = await self._supervised(caller, call, tool, parsed, run_id)
            result: object = output.result
            citations = tuple(json.dumps(c, ensure_ascii=False) for c in output.citations)
            is_error = False
        except ServiceError as error:
            result = {"error": error.message, "reason": error.reason}
            citations = ()
            is_error = True
        duration = round((self._clock.monotonic() - began) * 1000)
        text, truncated = cut(json.dumps(result, ensure_ascii=False), call.max_result_bytes)
        return Outcome(text, is_error, truncated, duration, citations)

    async def _supervised(
        self, caller: Principal, call: Call, tool: Tool, parsed: dict[str, object], run_id: str
    ) -> ToolOutput:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_attempt(tool, parsed, call))
            self._running[run_id] = _Running(caller.tenant_id, caller.subject, task)
            try:
                # wait(), because a cancelled tool is an outcome while a cancelled caller is not.
                await asyncio.wait({task})
            finally:
                del self._running[run_id]
                task.cancel()
        if task.cancelled():
            raise ToolFailed("the call was cancelled")
        result = task.result()
        if isinstance(result, ServiceError):
            raise result
        return result


async def _attempt(tool: Tool, parsed: dict[str, object], call: Call) -> ToolOutput | ServiceError:
    # Errors are returned: a TaskGroup would wrap what a child raises.
    try:
        async with asyncio.timeout(tool.spec.timeout_seconds):
            return await tool.run(parsed, call.scope)
    except TimeoutError:
        return ToolTimeout(timeout_seconds=f"{tool.spec.timeout_seconds:g}")
    except ServiceError as error:
        return error


def cut(text: str, max_bytes: int) -> tuple[str, bool]:
    """Return JSON `text` in at most about `max_bytes`; a longer one as {"truncated": its start}."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return text, False
    return json.dumps(
        {"truncated": encoded[:max_bytes].decode("utf-8", "ignore")}, ensure_ascii=False
    ), True


def _unknown_outcome() -> Outcome:
    result = {
        "error": "an earlier run of this call was interrupted; whether it took effect is unknown",
        "reason": "OUTCOME_UNKNOWN",
    }
    return Outcome(json.dumps(result), is_error=True, truncated=False, duration_milliseconds=0)
