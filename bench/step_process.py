"""Steps of the orchestrator that do nothing: its decider alone, or with the journal in PostgreSQL.

    python -m bench.step_process --steps 25 --bare-runs 200
    python -m bench.step_process --steps 25 --database postgresql://… --runs 40 --at-once 8

prints one line of JSON, milliseconds of a step by name, like bench/peers/langgraph_steps.py.
Durable runs are whole tasks: accepted, each step journaled, sealed, before the next one begins,
ended with their event and audit record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import uvloop

from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.ids import new_id
from meshwright_common.settings import DatabaseSettings
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.testing.encryption import key_ring
from meshwright_orchestrator.adapters.postgres_tasks import PostgresTasks
from meshwright_orchestrator.adapters.postgres_waits import PostgresWaits
from meshwright_orchestrator.agents.catalogue import BUILTIN
from meshwright_orchestrator.domain import deciding
from meshwright_orchestrator.domain.agent_directory import AgentDirectory
from meshwright_orchestrator.domain.conversation import (
    JsonObject,
    Message,
    Role,
    Text,
    ToolCall,
    ToolOffer,
)
from meshwright_orchestrator.domain.decider import ENGINE_VERSION, CallTools, Finish, step
from meshwright_orchestrator.domain.journal import (
    ModelAnswered,
    Recalled,
    Remembered,
    ToolResult,
    ToolsAnswered,
)
from meshwright_orchestrator.domain.lease import Lease
from meshwright_orchestrator.domain.models import Limits, TaskSpec
from meshwright_orchestrator.domain.ports import (
    ModelRequest,
    NewTask,
    Tell,
    ToolRequest,
    Withdraw,
)
from meshwright_orchestrator.domain.runner import BuiltinEngine
from meshwright_orchestrator.domain.workbench import Peers, Workbench

LEASE_SECONDS = 600.0
SPEC = TaskSpec("chat", (Message(Role.USER, (Text("Go"),)),))
OFFER = ToolOffer("noop", "Does nothing.", {"type": "object"})


def answer(number: int, steps: int) -> ModelAnswered:
    """Return what the model says as step `number` of `steps`: a call, at the end an answer."""
    if number >= steps:
        return ModelAnswered("Done.")
    return ModelAnswered("", tool_calls=(ToolCall(f"c{number}", "noop", f'{{"n": {number}}}'),))


def _check(taken: int, steps: int) -> None:
    if taken != steps:
        raise RuntimeError(f"a run took {taken} steps, not {steps}")


class Nothing:
    """Peers that answer at once."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def generate(
        self, request: ModelRequest, tell: Tell, withdraw: Withdraw
    ) -> ModelAnswered:
        return answer(request.key.step, self._steps)

    async def offered(self) -> tuple[ToolOffer, ...]:
        return (OFFER,)

    async def execute(self, request: ToolRequest) -> ToolResult:
        return ToolResult(request.call.id, request.call.name, "{}")

    async def search(self, query: str, **wanted: object) -> Recalled:
        return Recalled()

    async def recall(self, query: str, **wanted: object) -> tuple[Remembered, ...]:
        return ()

    async def summaries(self, session_id: str, **wanted: object) -> tuple[Remembered, ...]:
        return ()


class NoGraphs:
    """No graph is installed."""

    async def descriptions(self) -> dict[str, str]:
        return {}


def bare(steps: int, runs: int) -> float:
    """Return the milliseconds of a decision."""
    began = time.perf_counter()
    for _ in range(runs):
        decision = deciding.begin(BUILTIN.find("chat"), SPEC, Limits(max_steps=steps))
        number = 0
        while not isinstance(decision.command, Finish):
            number += 1
            outcome: ModelAnswered | ToolsAnswered = answer(number, steps)
            if isinstance(decision.command, CallTools):
                calls = tuple(planned.call for planned in decision.command.calls)
                results = tuple(ToolResult(call.id, call.name, "{}") for call in calls)
                outcome = ToolsAnswered(calls, results)
            decision = step(decision.state, outcome)
        _check(number, steps)
    return (time.perf_counter() - began) / runs / steps * 1e3


class Tasks:
    """Runs whole tasks on the tables, one after another or several at once."""

    def __init__(self, database: Database, steps: int) -> None:
        ring = key_ring(database)
        nothing = Nothing(steps)
        self._steps = steps
        self._tasks = PostgresTasks(
            database, ring, lease_seconds=LEASE_SECONDS, default_seconds=LEASE_SECONDS
        )
        self._waits = PostgresWaits(database, ring, question_seconds=LEASE_SECONDS)
        self._peers = Peers(
            retriever=nothing,
            models=nothing,
            tools=nothing,
            memory=nothing,  # type: ignore[arg-type]  # these tasks summarise nothing
        )
        self._engine = BuiltinEngine(AgentDirectory(BUILTIN, NoGraphs()))
        self._owner = Principal(new_id(), new_id(), "user", frozenset({"agent:execute"}))

    async def run(self) -> None:
        """Accept a task, take its steps, end it."""
        limits = Limits(max_steps=self._steps)
        new = NewTask(new_id(), self._owner, new_id(), SPEC, limits, ENGINE_VERSION, "")
        with bind(CallContext(principal=self._owner, correlation_id=new.correlation_id)):
            accepted = await self._tasks.accept(new)
            bench = Workbench(
                accepted.task,
                (),
                tasks=self._tasks,
                waits=self._waits,
                peers=self._peers,
                lease=Lease(time.monotonic, LEASE_SECONDS, time.monotonic()),
            )
            ending = await self._engine.work(bench)
            await self._tasks.end(accepted.task, ending)
        _check(ending.steps[-1].number, self._steps)


async def durable(url: str, steps: int, runs: int, at_once: int) -> JsonObject:
    """Return the milliseconds of a step that is journaled, and this process's CPU of it."""
    async with open_database(DatabaseSettings(url=url), "orchestrator") as database:
        tasks = Tasks(database, steps)
        await asyncio.gather(*(tasks.run() for _ in range(at_once)))
        began, before = time.perf_counter(), time.process_time()
        for _ in range(runs // at_once):
            await asyncio.gather(*(tasks.run() for _ in range(at_once)))
        done = runs // at_once * at_once * steps
        return {
            "sync": (time.perf_counter() - began) / done * 1e3,
            "sync_cpu": (time.process_time() - before) / done * 1e3,
        }


def main() -> None:
    """Measure, and print it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, required=True)
    arguments.add_argument("--bare-runs", type=int, default=0)
    arguments.add_argument("--database", default="")
    arguments.add_argument("--runs", type=int, default=0)
    arguments.add_argument("--at-once", type=int, default=1)
    options = arguments.parse_args()
    found: JsonObject
    if options.database:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(
                durable(options.database, options.steps, options.runs, options.at_once)
            )
    else:
        found = {"bare": bare(options.steps, options.bare_runs)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
