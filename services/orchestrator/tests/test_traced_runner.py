"""Attempts of tasks in traces: their ids are known to whoever comes after them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwright_common.context import CallContext, bind
from meshwright_common.rpc.stream import open_stream
from meshwright_common.telemetry import trace_context, tracing
from meshwright_common.telemetry.sampling import Sampling
from meshwright_common.telemetry.spans import Span
from meshwright_common.testing.waiting import eventually
from meshwright_orchestrator.workers.traced_runner import attempt_span
from services.orchestrator.tests.mesh import SWEEPING, Mesh, request
from services.orchestrator.tests.peers import Say
from services.orchestrator.tests.processes import orchestrator, peers_on_a_port

TASK = "01890a5d-ac96-774b-bcce-b302099a8057"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    """What this process exports."""
    kept: list[Span] = []
    tracing.start(Sampling(0.0), kept.append, lambda: None)
    yield kept
    tracing.shutdown()


def test_the_span_of_an_attempt_has_the_same_id_in_every_process() -> None:
    assert "00d9e9cbef38c59c" == attempt_span(TASK, 1)


def test_each_attempt_has_a_span_of_its_own() -> None:
    ids = {attempt_span(TASK, number) for number in range(1, 50)}
    assert 49 == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


@pytest.mark.asyncio
@pytest.mark.timeout(170)
async def test_a_task_that_was_taken_over_goes_on_in_its_trace_linked_to_what_was_cut_off(
    mesh: Mesh, spans: list[Span], tmp_path: Path
) -> None:
    """By a sweep, which has no trace of its own, after the first process was killed."""
    task_id = ""
    mesh.models.script = [Say(["Let me see."], [("slow", '{"numbers": [1]}')]), Say(["Done."])]
    async with (
        peers_on_a_port(mesh, tmp_path / "keys") as peers,
        orchestrator(mesh, tmp_path / "keys", peers) as first,
    ):
        with bind(CallContext(principal=mesh.caller, traceparent=TRACE)):
            async with open_stream(
                first.stubs.agents.ExecuteTask(request(agent="tool_call"))
            ) as told:
                async for one in told:
                    if one.event.WhichOneof("event") == "tool_call":
                        task_id = one.event.task_id
                        break
        await first.kill()
        mesh.tools.gate.set()
        async with mesh.process(SWEEPING):
            await eventually(lambda: any(one.name.startswith("invoke_agent") for one in spans))

    (attempt,) = [one for one in spans if one.name.startswith("invoke_agent")]
    assert trace_context.trace_id(TRACE) == attempt.trace_id
    assert attempt_span(task_id, 2) == trace_context.span_id(attempt.traceparent)
    assert [attempt_span(task_id, 1)] == [trace_context.span_id(one) for one in attempt.links]
    assert "completed" == attempt.attributes["meshwright.task_state"]
