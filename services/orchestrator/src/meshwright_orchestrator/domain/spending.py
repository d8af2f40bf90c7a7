"""What steps use of a budget."""

from collections.abc import Iterable

from meshwright_orchestrator.domain.journal import ModelAnswered, Step, ToolsAnswered, usage_of
from meshwright_orchestrator.domain.task_budget import Spent


def spent_in(steps: Iterable[Step]) -> Spent:
    """Return what these steps used: those of models and tools count, as for a task's own limit."""
    counted = tokens = cost = 0
    for step in steps:
        usage = usage_of(step.outcome)
        counted += isinstance(step.outcome, ModelAnswered | ToolsAnswered)
        tokens += usage.prompt_tokens + usage.completion_tokens
        cost += usage.cost_micro_usd
    return Spent(counted, tokens, cost)
