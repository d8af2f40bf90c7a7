"""Graphs as an installed distribution would bring them."""

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

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
