"""Runs of workflows: order, joins, conditions, loops, failure and the way back."""

import json
from typing import Any

import pytest

from meshwright_common.errors import InvalidArgument
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.mesh import Mesh
from services.orchestrator.tests.peers import Say
from services.orchestrator.tests.workflows import (
    add,
    author,
    created,
    ended,
    output,
    read,
    started,
    state,
    states,
    tool,
)

pytestmark = pytest.mark.asyncio


@pytest.mark.promise("FLOW-01")
async def test_a_chain_hands_each_output_to_the_next_step(mesh: Mesh) -> None:
    """Steps that name each other in `after` are done one after the other."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            add("first", "${input.a}", 1),
            add("second", "${steps.first.output.sum}", 10, after=["first"]),
            output="{'total': steps.second.output.sum}",
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow, a=5))
    assert state(run) == "completed", run
    assert output(run) == {"total": 16}
    assert states(run) == {"first": "completed", "second": "completed"}
    assert [name for *_, name in mesh.tools.ran] == ["add", "add"]


async def test_a_group_runs_beside_itself_and_is_joined(mesh: Mesh) -> None:
    """Steps without a common predecessor do not wait for each other; a join waits for all."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            {"name": "slow", "action": tool("slow")},
            add("quick", 1),
            add(
                "early",
                "${steps.quick.output.sum}",
                after=["slow", "quick"],
                join="WORKFLOW_JOIN_ANY",
            ),
            add("last", 1, after=["slow", "early"]),
        )
        run = await started(stubs, caller, workflow)
        await mesh.tools.reached.wait()

        async def early_ended() -> bool:
            seen = states(await read(stubs, caller, run.run_id))
            return seen["early"] == "completed" and seen["slow"] == "running"

        await eventually(early_ended)
        assert states(await read(stubs, caller, run.run_id))["last"] == "pending"
        mesh.tools.gate.set()
        run = await ended(stubs, caller, run)
    assert state(run) == "completed"


async def test_a_condition_that_is_false_skips_its_step(mesh: Mesh) -> None:
    """SKIPPED counts as ended well, and its output is null."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            add("maybe", 1, condition="input.wanted"),
            add("after", 2, after=["maybe"]),
            output="[steps.maybe.output, steps.after.output.sum]",
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow, wanted=False))
    assert states(run) == {"maybe": "skipped", "after": "completed"}
    assert output(run) == [None, 2]


async def test_for_each_keeps_order_and_bound(mesh: Mesh) -> None:
    """One item a member of the list; outputs in the order of the list."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            add(
                "each",
                "${item}",
                "${index}",
                for_each="input.numbers.map(n, n * 2)",
                max_parallel=2,
            ),
            output="steps.each.output.map(one, one.sum)",
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow, numbers=[1, 2, 3]))
    assert state(run) == "completed", run
    assert output(run) == [2, 5, 8]


async def test_a_loop_goes_round_while_its_expression_is_true(mesh: Mesh) -> None:
    """The output of a round is the item of the next."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            add(
                "double",
                "${item == null ? 1 : item.sum}",
                "${item == null ? 0 : item.sum}",
                repeat_while="output.sum < 10",
                max_repeats=9,
            ),
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow))
    assert output(run) == {"sum": 16}


async def test_an_agent_answers_a_step(mesh: Mesh) -> None:
    """Its task acts for the creator of the run, and its usage is the run's."""
    caller = author(mesh)
    mesh.models.script = [Say(["Paris"])]
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            {
                "name": "ask",
                "action": {"agent": {"agent": "chat", "message": "Where is ${input.what}?"}},
            },
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow, what="it"))
    assert output(run) == {"answer": "Paris"}, run
    assert run.usage.completion_tokens > 0
    assert len(run.steps[0].child_ids) == 1


@pytest.mark.promise("FLOW-03")
async def test_a_failure_is_undone_in_reverse_order(mesh: Mesh) -> None:
    """Completed steps are compensated, last one first; the rest is cancelled."""
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            add("one", 1, compensation=tool("add", numbers=["${output.sum}", 100])),
            add("two", 2, after=["one"], compensation=tool("add", numbers=["${output.sum}", 200])),
            {"name": "broken", "action": tool("nowhere"), "after": ["two"]},
            add("never", 1, after=["broken"]),
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow))
    assert state(run) == "failed"
    assert run.error.reason == "TOOL_NOT_FOUND"
    assert states(run) == {
        "one": "compensated",
        "two": "compensated",
        "broken": "failed",
        "never": "cancelled",
    }
    assert list(map(_sum, mesh.tools.ledger.values()))[-2:] == [202, 101]
    notices = await mesh.events("notification.created")
    assert [one["kind"] for one in notices] == ["workflow.failed"]


def _sum(text: str) -> Any:
    return json.loads(text)["sum"]


async def test_a_step_that_may_fail_lets_the_run_go_on(mesh: Mesh) -> None:
    caller = author(mesh)
    async with mesh.process() as stubs:
        workflow = await created(
            stubs,
            caller,
            {"name": "broken", "action": tool("nowhere"), "may_fail": True},
            add("after", 1, after=["broken"]),
            output="steps.broken.output.error.reason",
        )
        run = await ended(stubs, caller, await started(stubs, caller, workflow))
    assert state(run) == "completed"
    assert output(run) == "TOOL_NOT_FOUND"


async def test_a_workflow_inside_a_workflow(mesh: Mesh) -> None:
    caller = author(mesh)
    async with mesh.process() as stubs:
        await created(stubs, caller, add("inner", "${input.n}", 1), name="inner")
        outer = await created(
            stubs,
            caller,
            {
                "name": "sub",
                "action": {"subworkflow": {"workflow": "inner", "input": {"n": "${input.n}"}}},
            },
            add("more", "${steps.sub.output.sum}", 1, after=["sub"]),
            name="outer",
        )
        run = await ended(stubs, caller, await started(stubs, caller, outer, n=1))
    assert output(run) == {"sum": 3}, run


@pytest.mark.promise("FLOW-05")
async def test_wrong_definitions_name_step_and_field(mesh: Mesh) -> None:
    caller = author(mesh)
    cases: list[tuple[str, list[dict[str, Any]]]] = [
        ("definition.steps[0].after", [add("a", 1, after=["b"])]),
        ("definition.steps[0].after", [add("a", 1, after=["b"]), add("b", 1, after=["a"])]),
        ("definition.steps[0].name", [add("A", 1)]),
        ("definition.steps[1].name", [add("a", 1), add("a", 1)]),
        ("definition.steps[0].condition", [add("a", 1, condition="input.")]),
        ("definition.steps[0].condition", [add("a", 1, condition="nobody.x")]),
        ("definition.steps[0].action.tool.arguments", [add("a", "${steps.b.output}"), add("b", 1)]),
        ("definition.steps[0].action", [{"name": "a"}]),
        ("definition.steps[0].max_repeats", [add("a", 1, repeat_while="true")]),
        (
            "definition.steps[0].repeat_while",
            [add("a", 1, repeat_while="true", max_repeats=1, for_each="[]")],
        ),
        ("definition.steps[0].retry.max_attempts", [add("a", 1, retry={"max_attempts": 11})]),
        ("definition.steps[0].timeout", [add("a", 1, timeout="0.5s")]),
        ("definition.steps", []),
    ]
    async with mesh.process() as stubs:
        for field, steps in cases:
            with pytest.raises(InvalidArgument) as caught:
                await created(stubs, caller, *steps)
            assert caught.value.field_violations[0].field == field, caught.value.message
