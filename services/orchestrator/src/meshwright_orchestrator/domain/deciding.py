"""How a task of an agent begins: by the agent's type. What follows, the decision's state knows."""

from meshwright_orchestrator.domain import decider, plan_execute, supervisor
from meshwright_orchestrator.domain.agents import AgentSpec, AgentType
from meshwright_orchestrator.domain.decider import Decision
from meshwright_orchestrator.domain.models import Limits, TaskSpec


def begin(agent: AgentSpec, spec: TaskSpec, limits: Limits) -> Decision:
    """Return the first decision of a task."""
    match agent.type:
        case AgentType.PLAN_EXECUTE:
            return plan_execute.begin(agent, spec, limits)
        case AgentType.SUPERVISOR:
            return supervisor.begin(agent, spec, limits)
        case _:
            return decider.begin(agent, spec, limits)
