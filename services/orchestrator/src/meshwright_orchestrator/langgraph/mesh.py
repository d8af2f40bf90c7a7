"""What a graph gets from the mesh, and running it with that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from meshwright_orchestrator.domain.citations import cited
from meshwright_orchestrator.domain.conversation import JsonObject
from meshwright_orchestrator.domain.errors import NOBODY_ANSWERED, StepLimit
from meshwright_orchestrator.domain.events import Chunk, joined, retold
from meshwright_orchestrator.domain.journal import GraphAnswered
from meshwright_orchestrator.domain.models import Failure, Result, TaskState
from meshwright_orchestrator.domain.ports import Ending
from meshwright_orchestrator.domain.waiting import Asked
from meshwright_orchestrator.domain.workbench import Workbench
from meshwright_orchestrator.langgraph.interrupts import UPDATE, Open, open_of, resumed_by
from meshwright_orchestrator.langgraph.memory import MeshMemory
from meshwright_orchestrator.langgraph.messages import from_langchain, to_langchain
from meshwright_orchestrator.langgraph.model import MeshChatModel
from meshwright_orchestrator.langgraph.recorder import Recorder
from meshwright_orchestrator.langgraph.saver import attempt_saver
from meshwright_orchestrator.langgraph.tools import MeshTool, mesh_tool

SUPERSTEPS_PER_STEP: Final = 4
"""LangGraph counts its own rounds, also those of nodes that call nothing."""
MESSAGES: Final = "messages"
AT_THE_END: Final = "exit"
"""When LangGraph saves a graph's state: when it ends or waits, not after each round."""

Graph = Pregel[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Mesh:
    """What a graph builds on. `hidden_model` thinks: its text is reasoning, not answer."""

    model: MeshChatModel
    hidden_model: MeshChatModel
    tools: Sequence[MeshTool]
    memory: MeshMemory

    def __deepcopy__(self, memo: object) -> "Mesh":
        """Return this one: a copy of a graph's state is no other task."""
        return self


GraphBuilder = Callable[[Mesh], Any]
"""What an entry point may name: a function of the mesh that returns a graph, compiled or not."""


async def run_graph(bench: Workbench, installed: object) -> Ending:
    """Run an installed graph on the task of `bench` to its end.

    `installed` is a GraphBuilder, or a compiled graph: that finds the mesh in its config, as
    `config["configurable"]["mesh"]`. A graph that interrupts itself waits for people, all that it
    asks at the same time together; when nobody answers in time, its task expires.
    Raises: LeaseLost, Suspended, StepLimit, a peer's error; whatever the graph itself raises.
    """
    recorder = Recorder(bench)
    mesh = Mesh(
        model=MeshChatModel(recorder=recorder, cache=False),
        hidden_model=MeshChatModel(recorder=recorder, hidden=True, cache=False),
        tools=[mesh_tool(recorder, offer) for offer in await bench.offered()],
        memory=MeshMemory(recorder),
    )
    spec, limits = bench.task.spec, bench.task.limits
    given = [to_langchain(message) for message in spec.messages]
    config: RunnableConfig = {
        "configurable": {"mesh": mesh, "thread_id": bench.task.task_id},
        "recursion_limit": limits.max_steps * SUPERSTEPS_PER_STEP,
    }
    try:
        graph = _compiled(installed, mesh).copy({"checkpointer": attempt_saver()})
        output = await graph.ainvoke(
            {**(spec.input or {}), MESSAGES: given}, config, durability=AT_THE_END
        )
        while (waiting := open_of(await graph.aget_state(config, subgraphs=True))) is not None:
            asked = await recorder.ask(waiting.questions)
            if any(answer.expired for answer in asked.answers):
                return Ending(
                    TaskState.EXPIRED,
                    failure=NOBODY_ANSWERED,
                    steps=bench.unwritten(),
                    usage=bench.usage,
                )
            output = await _resumed(graph, config, waiting, asked)
    except GraphRecursionError as error:
        raise StepLimit(max_steps=str(limits.max_steps)) from error
    finally:
        recorder.close()
    return _ending(bench, recorder, output, len(given))


async def _resumed(graph: Graph, config: RunnableConfig, waiting: Open, asked: Asked) -> object:
    if waiting.ids:
        command = resumed_by(waiting, asked.answers)
        return await graph.ainvoke(command, config, durability=AT_THE_END)
    update = asked.answers[0].value.get(UPDATE)
    if isinstance(update, Mapping):
        await graph.aupdate_state(config, dict(update))
    return await graph.ainvoke(None, config, durability=AT_THE_END)


def _compiled(installed: object, mesh: Mesh) -> Graph:
    graph = installed if isinstance(installed, Pregel) else cast(GraphBuilder, installed)(mesh)
    if isinstance(graph, StateGraph):
        graph = graph.compile()
    if not isinstance(graph, Pregel):
        raise TypeError(f"the entry point gave {type(graph).__name__}, not a graph")
    return graph


def _ending(bench: Workbench, recorder: Recorder, output: object, given: int) -> Ending:
    values: Mapping[str, object] = output if isinstance(output, Mapping) else {"output": output}
    messages = values.get(MESSAGES)
    added = list(messages)[given:] if isinstance(messages, Sequence) else []
    said = _last_text(added)
    # A text that no model of the mesh wrote is told here; those of models were told as they came.
    more = "" if said in {"", *recorder.texts} else said
    answer = joined([*recorder.texts, more])
    plain = _plain(values)
    if not answer and plain is None:
        failure = Failure("PROVIDER_PROTOCOL", "the graph ended without an answer", retryable=True)
        return Ending(TaskState.FAILED, failure=failure, steps=bench.unwritten(), usage=bench.usage)
    steps = bench.unwritten(GraphAnswered(more, plain))
    for event in retold(steps[-1], len(joined(recorder.texts)))[0]:
        if isinstance(event, Chunk):
            bench.tell(event)
    result = Result(
        answer=answer,
        citations=cited(answer, recorder.sources),
        messages=tuple(recorder.as_written(from_langchain(message)) for message in added),
        usage=bench.usage,
        output=plain,
    )
    return Ending(TaskState.COMPLETED, result=result, steps=steps, usage=bench.usage)


def _last_text(messages: Sequence[BaseMessage]) -> str:
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return from_langchain(message).text
    return ""


def _plain(values: Mapping[str, object]) -> JsonObject | None:
    """Return what of a graph's state is JSON beside its messages; None when nothing is."""
    plain: dict[str, object] = {}
    for name, value in values.items():
        if name == MESSAGES:
            continue
        try:
            plain[name] = orjson.loads(orjson.dumps(value))
        except TypeError:
            # Objects of the graph's own are its business.
            continue
    return plain or None
