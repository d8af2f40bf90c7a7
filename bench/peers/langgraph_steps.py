"""Steps of a LangGraph graph that do nothing: two nodes in a loop, bare or with checkpoints.

Run by the Python of its own environment (infra/dev/peers.sh langgraph):

    <python> bench/peers/langgraph_steps.py --steps 25 --bare-runs 200
    <python> bench/peers/langgraph_steps.py --steps 25 --database URL --runs 40 --at-once 8

prints one line of JSON, milliseconds of a step by name. At its best: uvloop, async nodes, a state
of plain messages that are appended, and for each run at once a saver and a connection of its own.
"""

import argparse
import asyncio
import importlib
import json
import operator
import time
import uuid
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal, TypedDict

import uvloop
from langgraph.graph import END, START, StateGraph

DURABILITIES: tuple[Literal["sync", "async"], ...] = ("sync", "async")


class State(TypedDict):
    """What the nodes pass on."""

    messages: Annotated[list[dict[str, Any]], operator.add]
    step: int


def graph_of(steps: int) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph that takes so many steps: a model that calls a tool, and the tool."""

    async def model(state: State) -> dict[str, Any]:
        number = state["step"] + 1
        call = {"id": f"c{number}", "name": "noop", "arguments": json.dumps({"n": number})}
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        return {"messages": [message], "step": number}

    async def tool(state: State) -> dict[str, Any]:
        call = state["messages"][-1]["tool_calls"][0]
        message = {"role": "tool", "content": "{}", "tool_call_id": call["id"]}
        return {"messages": [message], "step": state["step"] + 1}

    graph = StateGraph(State)
    graph.add_node("model", model)
    graph.add_node("tool", tool)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda state: END if state["step"] >= steps else "tool")
    graph.add_edge("tool", "model")
    return graph


async def run(compiled: Any, steps: int, **more: Any) -> None:
    """Run the graph once, as a conversation of its own."""
    config = {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": steps + 5}
    asked = {"messages": [{"role": "user", "content": "Go"}], "step": 0}
    ended = await compiled.ainvoke(asked, config, **more)
    if ended["step"] != steps:
        raise RuntimeError(f"a run took {ended['step']} steps, not {steps}")


async def bare(steps: int, runs: int) -> float:
    """Return the milliseconds of a step without a checkpointer."""
    compiled = graph_of(steps).compile()
    await run(compiled, steps)
    began = time.perf_counter()
    for _ in range(runs):
        await run(compiled, steps)
    return (time.perf_counter() - began) / runs / steps * 1e3


async def durable(database: str, steps: int, runs: int, at_once: int) -> dict[str, float]:
    """Return the milliseconds of a step with checkpoints, by durability, and this process's CPU."""
    found: dict[str, float] = {}
    saving = importlib.import_module("langgraph.checkpoint.postgres.aio").AsyncPostgresSaver
    async with AsyncExitStack() as stack:
        compiled = []
        for number in range(at_once):
            saver = await stack.enter_async_context(saving.from_conn_string(database))
            if not number:
                await saver.setup()
            compiled.append(graph_of(steps).compile(checkpointer=saver))
        for durability in DURABILITIES:
            await asyncio.gather(*(run(one, steps, durability=durability) for one in compiled))
            began, before = time.perf_counter(), time.process_time()
            for _ in range(runs // at_once):
                await asyncio.gather(*(run(one, steps, durability=durability) for one in compiled))
            done = runs // at_once * at_once * steps
            found[durability] = (time.perf_counter() - began) / done * 1e3
            found[f"{durability}_cpu"] = (time.process_time() - before) / done * 1e3
    return found


async def measured(options: argparse.Namespace) -> dict[str, float]:
    """Measure what was asked for."""
    if options.database:
        return await durable(options.database, options.steps, options.runs, options.at_once)
    return {"bare": await bare(options.steps, options.bare_runs)}


def main() -> None:
    """Measure, and print it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, required=True)
    arguments.add_argument("--bare-runs", type=int, default=0)
    arguments.add_argument("--database", default="")
    arguments.add_argument("--runs", type=int, default=0)
    arguments.add_argument("--at-once", type=int, default=1)
    options = arguments.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measured(options))))


if __name__ == "__main__":
    main()
