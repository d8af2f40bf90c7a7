"""Promises: agents that join from outside."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

REMOTE: dict[str, Promise] = {
    "REMOTE-01": Promise(
        "A program with nothing of ours but the stubs joins as an agent, is listed with its state, "
        "weight and load, answers tasks, and leaves when it is told to end.",
        "features.md O8; issue 6, build 8",
    ),
    "REMOTE-02": Promise(
        "When the program dies amid a task, another instance does it, and the task completes once.",
        "issue 6, build 8; agent.proto",
    ),
    "REMOTE-03": Promise(
        "An instance that drains takes nothing new, and the others take it all.",
        "agent.proto; issue 6, build 8",
    ),
    "REMOTE-04": Promise(
        "Names of other agents, addresses that the operator does not allow and callers without "
        "the permission are refused.",
        "agent_registry_service.proto",
    ),
    "REMOTE-05": Promise(
        "Tasks are shared out by the weights that follow from what instances say of their load.",
        "features.md O8",
    ),
}
