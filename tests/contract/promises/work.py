"""Promises: accepted tasks, whatever dies."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

WORK: dict[str, Promise] = {
    "TASK-01": Promise(
        "While processes of every kind are killed, at random and at the orchestrator's crash "
        "points, each accepted task ends once, is told once, has each step and each tool call "
        "once, and each step is charged once.",
        "reliability.md R-01, R-02, R-04; issue 6, Must show",
    ),
    "TASK-02": Promise(
        "A process that stood still for three leases and goes on writes nothing and calls nobody "
        "for a task that another one owns, wherever in a step it stood.",
        "reliability.md R-05; issue 6, Must show",
    ),
    "TASK-04": Promise(
        "Where processes that serve do no background work and others do nothing else, as on "
        "Kubernetes, answers, tasks, schedules, workflows, cancels and notifications work.",
        "performance.md, Scaling; features.md P5",
    ),
    "TASK-03": Promise(
        "Tasks whose worker was just killed can be cancelled at once: each is CANCELLED when the "
        "answer comes, none begins another call, and none is stuck.",
        "reliability.md R-07; issue 6, Must show",
    ),
}
