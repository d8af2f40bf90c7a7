"""Promises: tasks that wait without a worker, trees of tasks, and what they may use."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

WAITING: dict[str, Promise] = {
    "WAIT-01": Promise(
        "A task that waits holds neither lease nor worker, outlives every process, and no wait "
        "counts as an attempt that failed.",
        "features.md O7; issue 6, 5",
    ),
    "WAIT-02": Promise(
        "What a task waits for wakes it exactly once, however many answers, children, sweeps and "
        "cancels race; a step that is done again asks and starts nothing twice.",
        "features.md O7; reliability.md R-02",
    ),
    "WAIT-03": Promise(
        "Once the budget of a tree of tasks is used up no model or tool call of it begins; the "
        "failure names the bound.",
        "issue 6, 1",
    ),
    "WAIT-04": Promise(
        "Cancelling a task ends all that it started before it answers, and their calls within two "
        "seconds, in whatever process.",
        "reliability.md R-07; features.md O11",
    ),
    "WAIT-05": Promise(
        "A journal that the decider of today would not have made is told apart, with the first "
        "step that differs; nothing is called.",
        "reliability.md R-06",
    ),
    "WAIT-06": Promise(
        "Time that a person takes is none of the task's; what nobody answers in time is refused.",
        "features.md O7",
    ),
}
