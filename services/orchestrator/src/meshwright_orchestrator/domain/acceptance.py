"""What is fixed when a task is accepted, so that every attempt and every replay finds the same."""

from dataclasses import replace

from meshwright_orchestrator.domain.agent_directory import Choice
from meshwright_orchestrator.domain.agents import BUILTIN_VERSION
from meshwright_orchestrator.domain.models import Limits, TaskSpec


def limits_of(spec: TaskSpec, choice: Choice, platform: Limits) -> Limits:
    """Return the bounds of a new task: the agent's, where it has some, of which it may ask less."""
    agent = choice.spec
    most_steps, memories = platform.max_steps, platform.memory_top_k
    if agent is not None:
        most_steps = agent.max_steps or most_steps
        memories = memories if agent.memory_top_k is None else agent.memory_top_k
    if choice.version == BUILTIN_VERSION:
        max_steps = spec.max_steps or most_steps
    else:
        max_steps = min(spec.max_steps or most_steps, most_steps)
    return replace(
        platform, max_steps=max_steps, memory_top_k=memories, agent_version=choice.version
    )


def seconds_of(spec: TaskSpec, choice: Choice) -> float:
    """Return how long a new task may take by its agent and its budget. 0: neither says."""
    bounds = [spec.budget.max_seconds, 0.0 if choice.spec is None else choice.spec.max_seconds]
    return min((bound for bound in bounds if bound), default=0.0)
