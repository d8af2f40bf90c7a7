"""Promises: workflows and their runs."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

WORKFLOWS: dict[str, Promise] = {
    "FLOW-01": Promise(
        "Steps run in the order that `after` says, others beside each other; each ends exactly "
        "once, with joins, conditions, lists, loops and workflows inside workflows.",
        "features.md O6; orchestrator/v1/workflow.proto",
    ),
    "FLOW-02": Promise(
        "However often the processes that drive a run are killed, and however many there are, "
        "nothing that ended is done again and nothing is lost.",
        "features.md O6; issue 6, Workflows; reliability.md R-01",
    ),
    "FLOW-03": Promise(
        "When a run fails or is cancelled the compensations of exactly the completed steps are "
        "done, last step first.",
        "issue 6, Workflows; orchestrator/v1/workflow.proto",
    ),
    "FLOW-04": Promise(
        "CancelRun answers when no further call starts for the run's steps, those of runs inside "
        "it included.",
        "features.md O11; orchestrator/v1/workflow_service.proto",
    ),
    "FLOW-05": Promise(
        "A wrong definition is refused naming step and field; no expression takes more than its "
        "bounds of time and memory.",
        "orchestrator/v1/workflow.proto",
    ),
    "FLOW-06": Promise(
        "An approval waits for a person without a worker, also over the end of every process, and "
        "lets its run go on with the answer.",
        "features.md O7; issue 6, Must show",
    ),
    "FLOW-07": Promise(
        "Equal definitions make no second version, a request_id one run; a run keeps the version "
        "it began with and is seen by who started it.",
        "orchestrator/v1/workflow_service.proto",
    ),
    "FLOW-08": Promise(
        "A workflow in Python and the same one in YAML are one; a run shows its state as a tree "
        "and as a picture that needs nothing from elsewhere.",
        "issue 6, Workflows",
    ),
}
