"""How a task of an agent begins: by the agent's type. What follows, the decision's state knows."""

from dataclasses import replace

from meshwright_orchestrator.domain import budget, decider, plan_execute, structured, supervisor
from meshwright_orchestrator.domain.agents import BUILTIN_VERSION, AgentSpec, AgentType
from meshwright_orchestrator.domain.decider import Decision
from meshwright_orchestrator.domain.models import Limits, TaskSpec
from meshwright_orchestrator.domain.prompts import with_input


def begin(agent: AgentSpec, spec: TaskSpec, limits: Limits) -> Decision:
    """Return the first decision of a task."""
    if agent.version != BUILTIN_VERSION and spec.input is not None:
        agent = replace(agent, instructions=with_input(agent.instructions, spec.input))
    if agent.max_history_messages:
        shown = budget.newest(spec.messages, agent.max_history_messages)
        spec = replace(spec, messages=shown)
    return structured.begin(agent, spec, limits, _by_type)


def _by_type(agent: AgentSpec, spec: TaskSpec, limits: Limits) -> Decision:
    match agent.type:
        case AgentType.PLAN_EXECUTE:
            return plan_execute.begin(agent, spec, limits)
        case AgentType.SUPERVISOR:
            return supervisor.begin(agent, spec, limits)
        case _:
            return decider.begin(agent, spec, limits)
