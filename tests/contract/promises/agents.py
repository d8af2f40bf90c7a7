"""Promises: agents that tenants define by data."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

AGENTS: dict[str, Promise] = {
    "AGENT-01": Promise(
        "A task keeps the version of its agent that it was accepted for, whatever is defined or "
        "rolled back meanwhile, and whoever goes on with it after a kill.",
        "issue 6, build 3 (versioned, rolled back); agent_registry_service.proto, DefineAgent",
    ),
    "AGENT-02": Promise(
        "A definition and a rollback hold for every replica when they are answered; an equal "
        "definition makes no version, and a writer who read an older one is refused.",
        "features.md O2; agent_registry_service.proto, DefineAgent",
    ),
    "AGENT-03": Promise(
        "New tasks are shared among the versions by their percent, a session stays with one, and "
        "a rollback gives one version all of them.",
        "issue 6, build 3 (A/B weighted)",
    ),
    "AGENT-04": Promise(
        "A defined agent calls no tool beyond its list, whatever its model asks for.",
        "issue 6, build 3 (tools); agent.proto, AgentDefinition.tools",
    ),
    "AGENT-05": Promise(
        "The output of an agent with an output schema fits it, or the task fails and says why, "
        "after the model had one chance to mend it.",
        "issue 6, build 3 (output schema); agent.proto, AgentDefinition.output_schema",
    ),
    "AGENT-06": Promise(
        "Tenants see, ask and change their own agents only, also of the same name.",
        "features.md S9; issue 6, build 3",
    ),
    "AGENT-07": Promise(
        "Wherever an agent is named, a defined one answers: in chat, as a task, from the command "
        "line.",
        "features.md O2, G1",
    ),
    "AGENT-08": Promise(
        "A guard that is off reads what agents say that name it, and nobody else.",
        "issue 6, build 3 (guardrails); model_service.proto, GenerateRequest.input_guards",
    ),
}
