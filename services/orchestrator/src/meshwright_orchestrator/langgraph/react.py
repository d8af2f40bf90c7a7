"""The example behind the agent `langgraph-react`: a model and its tools in a loop.

It is an ordinary LangGraph graph; only where its model and its tools come from is ours.
"""

from typing import Any

from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from meshwright_orchestrator.langgraph.mesh import Mesh


def react(mesh: Mesh) -> StateGraph[Any, Any, Any, Any]:
    """Return the graph: call the model, call the tools it asks for, until it answers."""
    model = mesh.model.bind_tools(mesh.tools)

    async def call_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", call_model)
    graph.add_node("tools", ToolNode(mesh.tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph
