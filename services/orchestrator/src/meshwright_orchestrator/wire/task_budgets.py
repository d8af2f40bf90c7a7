"""Budgets of tasks: protobuf to domain and back, with the checks of shape."""

import math
from typing import Final

from meshwright.orchestrator.v1 import task_pb2
from meshwright_common.errors import invalid
from meshwright_orchestrator.domain.task_budget import NO_BUDGET, TaskBudget

MAX_SECONDS: Final = 86_400
MAX_DEPTH: Final = 10
MAX_TASKS: Final = 1_000


def budget_from(spec: task_pb2.TaskSpec) -> TaskBudget:
    """Return the budget of a spec. Raises: InvalidArgument naming the field."""
    if not spec.HasField("budget"):
        return NO_BUDGET
    budget = spec.budget
    for field in ("max_steps", "max_tokens", "max_cost_micro_usd"):
        if getattr(budget, field) < 0:
            raise invalid(f"spec.budget.{field}", "must not be negative")
    if not (math.isfinite(budget.max_seconds) and 0 <= budget.max_seconds <= MAX_SECONDS):
        raise invalid("spec.budget.max_seconds", f"must be 0 to {MAX_SECONDS}")
    for field, most in (("max_depth", MAX_DEPTH), ("max_tasks", MAX_TASKS)):
        if not 0 <= getattr(budget, field) <= most:
            raise invalid(f"spec.budget.{field}", f"must be 0 to {most}")
    return TaskBudget(
        max_steps=budget.max_steps,
        max_tokens=budget.max_tokens,
        max_cost_micro_usd=budget.max_cost_micro_usd,
        max_seconds=budget.max_seconds,
        max_depth=budget.max_depth,
        max_tasks=budget.max_tasks,
    )


def budget_message(budget: TaskBudget) -> task_pb2.TaskBudget | None:
    """Return a budget as the wire shows it; None when there is none."""
    if budget == NO_BUDGET:
        return None
    return task_pb2.TaskBudget(
        max_steps=budget.max_steps,
        max_tokens=budget.max_tokens,
        max_cost_micro_usd=budget.max_cost_micro_usd,
        max_seconds=budget.max_seconds,
        max_depth=budget.max_depth,
        max_tasks=budget.max_tasks,
    )
