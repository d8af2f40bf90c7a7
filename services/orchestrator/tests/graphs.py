"""Graphs as an installed distribution would bring them."""

import operator
from typing import Annotated, Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send, interrupt

from meshwright_orchestrator.langgraph.mesh import Mesh


class OutlineState(MessagesState):
    """What the outline graph keeps."""

    topic: str
    plan: str


def outline(mesh: Mesh) -> Any:
    """A graph of synchronous nodes: a hidden plan, an answer, a closing line of its own."""

    def make_plan(state: OutlineState) -> dict[str, Any]:
        answer = mesh.hidden_model.invoke([HumanMessage(f"Plan: {state['topic']}")])
        return {"plan": str(answer.content)}

    def write(state: OutlineState) -> dict[str, Any]:
        return {"messages": [mesh.model.invoke([HumanMessage("Write."), AIMessage(state["plan"])])]}

    def close(state: OutlineState) -> dict[str, Any]:
        return {"messages": [AIMessage("The end.")]}

    graph = StateGraph(OutlineState)
    graph.add_node("make_plan", make_plan)
    graph.add_node("write", write)
    graph.add_node("close", close)
    graph.add_edge(START, "make_plan")
    graph.add_edge("make_plan", "write")
    graph.add_edge("write", "close")
    return graph.compile()


def broken(mesh: Mesh) -> Any:
    """A graph whose node raises."""
    graph = StateGraph(MessagesState)

    def fail(state: MessagesState) -> dict[str, Any]:
        raise KeyError("a secret path")

    graph.add_node("fail", fail)
    graph.add_edge(START, "fail")
    return graph


def endless(mesh: Mesh) -> Any:
    """A graph that calls its model for ever."""
    graph = StateGraph(MessagesState)

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await mesh.model.ainvoke(state["messages"])]}

    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "ask")
    return graph


class FormState(MessagesState):
    """What the form graph keeps."""

    said: Annotated[list[str], operator.add]


def form(mesh: Mesh) -> Any:
    """A graph that works, asks two people side by side, one of them in a subgraph, and works on."""
    add = next(tool for tool in mesh.tools if tool.name == "add")

    async def prepare(state: FormState) -> dict[str, Any]:
        await mesh.model.ainvoke([HumanMessage("Prepare.")])
        return {}

    async def first(state: FormState) -> dict[str, Any]:
        sum_of = await add.ainvoke({"numbers": [1]})
        name = interrupt({"question": "Who?", "sum": sum_of})
        age = interrupt("How old?", response_schema={"type": "integer"})
        return {"said": [f"{name['answer']} {age}"]}

    def inner(state: FormState) -> dict[str, Any]:
        add.invoke({"numbers": [2]})
        return {"said": [f"inner {interrupt('Inner?')}"]}

    async def close(state: FormState) -> dict[str, Any]:
        await add.ainvoke({"numbers": [3]})
        return {"messages": [AIMessage("; ".join(sorted(state["said"])))]}

    below = StateGraph(FormState)
    below.add_node("inner", inner)
    below.add_edge(START, "inner")
    graph = StateGraph(FormState)
    graph.add_node("prepare", prepare)
    graph.add_node("first", first)
    graph.add_node("second", below.compile())
    graph.add_node("close", close)
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "first")
    graph.add_edge("prepare", "second")
    graph.add_edge(["first", "second"], "close")
    return graph


class ManyState(FormState):
    """What the graph of many questions keeps."""

    number: int


def many(mesh: Mesh) -> Any:
    """A graph of as many questions side by side as its input says, each after a call of its own."""
    add = next(tool for tool in mesh.tools if tool.name == "add")

    def fan_out(state: ManyState) -> list[Send]:
        return [Send("ask", {"number": number}) for number in range(int(state["number"]))]

    async def ask(state: ManyState) -> dict[str, Any]:
        await add.ainvoke({"numbers": [state["number"]]})
        return {"said": [interrupt(f"Number {state['number']}?")]}

    graph = StateGraph(ManyState)
    graph.add_node("ask", ask)
    graph.add_node("close", lambda state: {"messages": [AIMessage(" ".join(state["said"]))]})
    graph.add_conditional_edges(START, fan_out, ["ask"])
    graph.add_edge("ask", "close")
    return graph


@entrypoint()
async def functional(given: dict[str, Any], *, config: RunnableConfig) -> Any:
    """A graph of the functional API: one function that calls the mesh, asks, and answers."""
    mesh: Mesh = config["configurable"]["mesh"]
    drafted = await mesh.model.ainvoke(given["messages"])
    return {"messages": [*given["messages"], drafted, AIMessage(interrupt("Any last word?"))]}


def paused(mesh: Mesh) -> Any:
    """A graph that is paused from outside before its node says what was set meanwhile."""
    graph = StateGraph(OutlineState)
    graph.add_node("say", lambda state: {"messages": [AIMessage(f"Now {state['topic']}.")]})
    graph.add_edge(START, "say")
    return graph.compile(interrupt_before=["say"])


def mindful(mesh: Mesh) -> Any:
    """A graph that looks into the mesh's memory before it asks, and says what it found."""

    async def look(state: MessagesState) -> dict[str, Any]:
        known = await mesh.memory.recall("the user's colour", top_k=3)
        interrupt("Go on?")
        return {"messages": [AIMessage("; ".join(one.text for one in known))]}

    graph = StateGraph(MessagesState)
    graph.add_node("look", look)
    graph.add_edge(START, "look")
    return graph
