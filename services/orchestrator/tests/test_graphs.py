"""LangGraph graphs as agents: mesh model and tools, journaled call by call."""

import asyncio
import sys
from pathlib import Path

import pytest

from meshwright.orchestrator.v1 import agent_pb2, agent_registry_service_pb2
from meshwright_orchestrator.langgraph.registry import GROUP
from services.orchestrator.tests import graphs
from services.orchestrator.tests.mesh import Mesh, acting, kinds, request, run, text_of
from services.orchestrator.tests.peers import Say

pytestmark = pytest.mark.asyncio

REACT = "langgraph-react"


async def test_graph_runs_as_an_agent_with_model_and_tools_of_the_mesh(mesh: Mesh) -> None:
    """O3: same events, same journal, same result as a built-in agent's."""
    mesh.models.script = [
        Say(["Adding."], [("add", '{"numbers":  [1, 2]}'), ("add", '{"numbers": [3]}')]),
        Say(["Three ", "and three."]),
    ]
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent=REACT, request_id="r1"))
        again = await run(stubs, mesh.caller, request(agent=REACT, request_id="r1"))
    assert kinds(events) == [
        *("started", "chunk", "checkpoint"),
        *("tool_call", "tool_result", "checkpoint") * 2,
        *("chunk", "checkpoint", "checkpoint", "final"),
    ]
    assert events[-1].final.answer == text_of(events) == "Adding.\n\nThree and three."
    assert again[-1].final == events[-1].final
    assert text_of(again) == text_of(events)
    assert [(step, index) for _, step, index, _ in mesh.tools.ran] == [(2, 0), (3, 0)]
    assert [tool.name for tool in mesh.models.requests[0].tools] == [
        *("add", "knowledge_search", "slow")
    ]
    shown = [message.parts[0].text for message in mesh.models.requests[1].messages[-2:]]
    assert shown == ['{"sum": 3}', '{"sum": 3}']
    (asked,) = [one for one in mesh.models.requests[1].messages if one.tool_calls]
    assert asked.tool_calls[0].arguments_json == '{"numbers":  [1, 2]}'
    assert events[-1].final.messages[0] == asked
    assert len(await mesh.events("agent.task.completed")) == 1


async def test_graph_of_a_lost_process_runs_again_from_the_journal(mesh: Mesh) -> None:
    """R-02: model calls and tool calls that are journaled are not made a second time."""
    mesh.models.script = [
        Say(["Adding."], [("add", '{"numbers": [1, 2]}')]),
        Say(["Waiting."], [("slow", "{}")]),
        Say(["Done."]),
    ]
    async with mesh.process() as stubs:
        reading = asyncio.ensure_future(
            run(stubs, mesh.caller, request(agent=REACT, request_id="r1"))
        )
        await mesh.tools.reached.wait()
        reading.cancel()
        await asyncio.wait({reading})
    mesh.tools.gate.set()
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent=REACT, request_id="r1"))
    assert events[0].started.resumed_steps == 3
    assert text_of(events) == events[-1].final.answer == "Adding.\n\nWaiting.\n\nDone."
    made = [(call.attribution.step, call.attribution.attempt) for call in mesh.models.requests]
    assert made == [(1, 1), (3, 1), (5, 2)]
    assert [ran[1:] for ran in mesh.tools.ran] == [(2, 0, "add"), *[(4, 0, "slow")] * 2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with the graphs of graphs.py."""
    facts = tmp_path / "some_graphs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: some-graphs\nVersion: 1.0\n")
    lines = [f"{name}={graphs.__name__}:{name}" for name in ("outline", "broken", "endless")]
    lines.append(f"Not a name={graphs.__name__}:outline")
    (facts / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
async def test_synchronous_nodes_hidden_thoughts_and_own_words_are_told(mesh: Mesh) -> None:
    mesh.models.script = [Say(["first this, then that"]), Say(["The text."])]
    async with mesh.process() as stubs:
        asked = request(agent="outline", request_id="r1")
        asked.spec.input.update({"topic": "cats"})
        events = await run(stubs, mesh.caller, asked)
        again = await run(stubs, mesh.caller, asked)
    assert mesh.models.requests[0].messages[0].parts[0].text == "Plan: cats"
    assert events[-1].final.answer == text_of(events)
    reasoning = "".join(event.chunk.reasoning for event in events)
    assert reasoning == "first this, then that"
    assert events[-1].final.answer == "The text.\n\nThe end."
    assert events[-1].final.output["plan"] == "first this, then that"
    assert text_of(again) == text_of(events)


@pytest.mark.usefixtures("installed")
async def test_graph_that_raises_fails_its_task_without_telling_why(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent="broken"))
    assert events[-1].error.reason == "INTERNAL"
    assert "secret" not in events[-1].error.message


@pytest.mark.usefixtures("installed")
async def test_endless_graph_ends_at_the_step_limit(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        events = await run(stubs, mesh.caller, request(agent="endless", max_steps=3))
    assert events[-1].error.reason == "STEP_LIMIT"
    assert len(mesh.models.requests) == 3


@pytest.mark.usefixtures("installed")
async def test_agents_are_listed_without_importing_a_graph(mesh: Mesh) -> None:
    async with mesh.process() as stubs:
        with acting(mesh.caller):
            listed = await stubs.registry.ListAgents(agent_registry_service_pb2.ListAgentsRequest())
            of_type = await stubs.registry.ListAgents(
                agent_registry_service_pb2.ListAgentsRequest(types=[agent_pb2.AGENT_TYPE_GRAPH])
            )
    names = [agent.name for agent in listed.agents]
    builtin = {"chat", "plan_execute", "rag", "supervisor", "tool_call"}
    assert names == sorted({"broken", "endless", REACT, "outline"} | builtin)
    assert [agent.name for agent in of_type.agents] == ["broken", "endless", REACT, "outline"]
    assert listed.agents[0].description == "A LangGraph graph of some-graphs 1.0."
    assert all(agent.description for agent in listed.agents)


async def test_langgraph_is_not_imported_before_a_graph_is_used() -> None:
    """It takes 40 MB; most processes never run a graph."""
    code = (
        "import sys, meshwright_orchestrator.app;"
        "sys.exit(any(name in sys.modules for name in ('langgraph', 'langchain_core')))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
