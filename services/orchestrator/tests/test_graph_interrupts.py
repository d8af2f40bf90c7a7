"""Graphs that interrupt themselves: the task waits, and nothing is done twice (O3, O7)."""

from pathlib import Path

import pytest
from google.protobuf import json_format

from meshwright.orchestrator.v1 import task_pb2
from meshwright.session.v1 import memory_service_pb2
from meshwright_common.errors import InvalidArgument
from meshwright_orchestrator.langgraph.registry import GROUP
from services.orchestrator.tests import graphs
from services.orchestrator.tests.mesh import FAST, Mesh
from services.orchestrator.tests.peers import Say
from services.orchestrator.tests.people import answer, asked_of, reached, submit

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.timeout(170),
    pytest.mark.usefixtures("installed"),
]

QUICK = FAST.model_copy(update={"sweep_seconds": 0.2, "question_seconds": 1.0})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with the graphs that ask."""
    facts = tmp_path / "asking_graphs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: asking-graphs\nVersion: 1.0\n")
    names = ("form", "paused", "mindful", "many", "functional")
    lines = [f"{name}={graphs.__name__}:{name}" for name in names]
    (facts / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))


async def test_nodes_side_by_side_and_below_ask_and_go_on_without_repeating_calls(
    mesh: Mesh,
) -> None:
    """Each answer is given in another process than the question came from."""
    mesh.models.script = [Say(["Prepared."])]
    async with mesh.process() as stubs:
        task_id = await submit(stubs, mesh, "form")
        first, inner = await asked_of(stubs, mesh, task_id)
    assert first.question == "Who?"
    assert first.payload["sum"] == '{"sum": 1}'
    assert inner.question == "Inner?"
    async with mesh.process() as stubs:
        # In the other order than they were asked in.
        await answer(stubs, mesh.caller, task_id, inner.interrupt_id, {"value": "yes"})
        await answer(stubs, mesh.caller, task_id, first.interrupt_id, {"answer": "Eva"})
        (age,) = await asked_of(stubs, mesh, task_id, after=[first.interrupt_id])
        assert age.question == "How old?"
        with pytest.raises(InvalidArgument):
            await answer(stubs, mesh.caller, task_id, age.interrupt_id, {"value": "old"})
    async with mesh.process() as stubs:
        await answer(stubs, mesh.caller, task_id, age.interrupt_id, {"value": 7})
        done = await reached(stubs, mesh, task_id, task_pb2.TASK_STATE_COMPLETED)
    assert done.result.answer == "Prepared.\n\nEva 7; inner yes"
    assert json_format.MessageToDict(done.result.output)["said"] == ["Eva 7", "inner yes"]
    assert len(mesh.models.requests) == 1
    assert [ran[3] for ran in mesh.tools.ran] == ["add"] * 3
    assert mesh.tools.asked == 3


async def test_more_questions_than_a_task_asks_at_a_time_come_in_turns(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        task_id = await submit(stubs, mesh, "many", input={"number": 18}, max_steps=25)
        first = await asked_of(stubs, mesh, task_id)
        for one in first:
            await answer(stubs, mesh.caller, task_id, one.interrupt_id, {"value": one.question})
        rest = await asked_of(stubs, mesh, task_id, after=[one.interrupt_id for one in first])
        for one in rest:
            await answer(stubs, mesh.caller, task_id, one.interrupt_id, {"value": one.question})
        done = await reached(stubs, mesh, task_id, task_pb2.TASK_STATE_COMPLETED)
    assert (len(first), len(rest)) == (16, 2)
    said = done.result.answer.split("? ")
    assert {one.removesuffix("?") for one in said} == {f"Number {n}" for n in range(18)}
    assert mesh.tools.asked == 18


async def test_a_graph_of_the_functional_api_asks_too(mesh: Mesh) -> None:
    mesh.models.script = [Say(["Drafted."])]
    async with mesh.process() as stubs:
        task_id = await submit(stubs, mesh, "functional")
        (asked,) = await asked_of(stubs, mesh, task_id)
    async with mesh.process() as stubs:
        await answer(stubs, mesh.caller, task_id, asked.interrupt_id, {"value": "Bye."})
        done = await reached(stubs, mesh, task_id, task_pb2.TASK_STATE_COMPLETED)
    assert done.result.answer == "Drafted.\n\nBye."
    assert len(mesh.models.requests) == 1


async def test_a_pause_from_outside_is_a_question_too(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        task_id = await submit(stubs, mesh, "paused")
        (pause,) = await asked_of(stubs, mesh, task_id)
        assert json_format.MessageToDict(pause.payload)["next"] == ["say"]
        update = {"update": {"topic": "cats"}}
        await answer(stubs, mesh.caller, task_id, pause.interrupt_id, update)
        done = await reached(stubs, mesh, task_id, task_pb2.TASK_STATE_COMPLETED)
    assert done.result.answer == "Now cats."


async def test_a_graph_that_nobody_answers_expires(mesh: Mesh) -> None:
    """What its node would make of no answer, nobody can know: it is not resumed."""
    mesh.models.script = [Say(["Prepared."])]
    async with mesh.process(QUICK) as stubs:
        task_id = await submit(stubs, mesh, "form")
        done = await reached(stubs, mesh, task_id, task_pb2.TASK_STATE_EXPIRED)
    assert done.error.message == "nobody answered in time"


async def test_memory_of_the_mesh_is_journaled_as_other_calls(mesh: Mesh) -> None:
    mesh.memory.memories = [memory_service_pb2.Memory(text="Likes blue.")]
    async with mesh.process() as stubs:
        task_id = await submit(stubs, mesh, "mindful")
        (asked,) = await asked_of(stubs, mesh, task_id)
    mesh.memory.memories = [memory_service_pb2.Memory(text="Likes red.")]
    async with mesh.process() as stubs:
        await answer(stubs, mesh.caller, task_id, asked.interrupt_id, {})
        done = await reached(stubs, mesh, task_id, task_pb2.TASK_STATE_COMPLETED)
    assert done.result.answer == "Likes blue."
