"""What a task and all that it starts may use together.

Used is what is journaled. A call begins only while every bound has room, so that a tree oversteps
one by no more than what was under way when it was reached: one step of each of its tasks.
"""

from dataclasses import dataclass
from typing import Final

DEFAULT_MAX_DEPTH: Final = 3
DEFAULT_MAX_TASKS: Final = 50


@dataclass(frozen=True, slots=True)
class TaskBudget:
    """Bounds of a tree of tasks; 0: none, but depth and number of tasks always have one.

    `max_steps` counts model and tool steps, `max_tokens` prompt and completion, `max_depth` the
    levels below the root, `max_tasks` the root too. `max_seconds` is a deadline from acceptance on.
    """

    max_steps: int = 0
    max_tokens: int = 0
    max_cost_micro_usd: int = 0
    max_seconds: float = 0.0
    max_depth: int = 0
    max_tasks: int = 0

    @property
    def depth(self) -> int:
        """Levels below the root that there may be."""
        return self.max_depth or DEFAULT_MAX_DEPTH

    @property
    def tasks(self) -> int:
        """Tasks that there may be."""
        return self.max_tasks or DEFAULT_MAX_TASKS


NO_BUDGET: Final = TaskBudget()


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used of a budget."""

    steps: int = 0
    tokens: int = 0
    cost_micro_usd: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.steps + other.steps,
            self.tokens + other.tokens,
            self.cost_micro_usd + other.cost_micro_usd,
        )


@dataclass(frozen=True, slots=True)
class TreeUse:
    """The budget of a tree, and what its `tasks` tasks used of it so far."""

    budget: TaskBudget
    spent: Spent = Spent()
    tasks: int = 1


def used_up(budget: TaskBudget, spent: Spent) -> tuple[str, int] | None:
    """Return name and limit of a bound that leaves no room for another call, if there is one."""
    bounds = (
        ("max_steps", spent.steps, budget.max_steps),
        ("max_tokens", spent.tokens, budget.max_tokens),
        ("max_cost_micro_usd", spent.cost_micro_usd, budget.max_cost_micro_usd),
    )
    for name, used, limit in bounds:
        if limit and used >= limit:
            return name, limit
    return None
