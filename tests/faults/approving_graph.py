"""A graph as a distribution would bring it: works, asks, and works on when it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from meshwright_orchestrator.langgraph.mesh import Mesh

NAME = "approving"


class Wanted(MessagesState):
    """Which addresses to fetch: one before a person is asked, one after."""

    before: str
    after: str


def approving(mesh: Mesh) -> Any:
    """Return the graph."""
    fetch = next(tool for tool in mesh.tools if tool.name == "http_get")

    async def work(state: Wanted) -> dict[str, Any]:
        await fetch.ainvoke({"url": state["before"]})
        if interrupt({"question": "Go on?"})["approved"]:
            await fetch.ainvoke({"url": state["after"]})
        return {"messages": [AIMessage("Done.")]}

    graph = StateGraph(Wanted)
    graph.add_node("work", work)
    graph.add_edge(START, "work")
    return graph


def install(folder: Path) -> str:
    """Install the graph into a folder; return what PYTHONPATH must hold for it to be found."""
    facts = folder / "approving-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: approving\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        f"[meshwright.agents]\n{NAME}={approving.__module__}:{approving.__name__}\n"
    )
    return f"{folder}:{Path(__file__).resolve().parents[2]}"
