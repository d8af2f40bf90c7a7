"""The agent of one node that LangGraph's development server and Aegra run: it answers at once."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    """What a run is given and what it returns."""

    text: str


async def answer(state: State) -> State:
    """Answer."""
    return {"text": "done"}


graph = (
    StateGraph(State)
    .add_node("answer", answer)
    .add_edge(START, "answer")
    .add_edge("answer", END)
    .compile()
)
