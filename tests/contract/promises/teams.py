"""Promises: agents that hand work to others, and agents that plan."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

TEAMS: dict[str, Promise] = {
    "TEAM-01": Promise(
        "The work that a supervisor hands out in one message is done at the same time, by the "
        "agents of its team; their answers come back to it, over several levels.",
        "features.md O2; issue 6, 3",
    ),
    "TEAM-02": Promise(
        "Supervisors that hand work round in a circle come to an end at the depth limit: the "
        "deepest reads an error, and all the others get their answers.",
        "issue 6, 1 and 3",
    ),
    "TEAM-03": Promise(
        "An agent that fails is an error that its supervisor reads, and may do without.",
        "features.md O2",
    ),
    "TEAM-04": Promise(
        "Cancelling a supervisor's task cancels all agents at work for it.",
        "reliability.md R-07",
    ),
    "TEAM-05": Promise(
        "A process that dies amid a delegation or amid a plan repeats no child and no journaled "
        "step; the parent goes on once.",
        "reliability.md R-01, R-02, R-04",
    ),
    "TEAM-06": Promise(
        "Readers see a plan, the state of its steps and which agents are at work, in the streams "
        "of tasks and of turns; a model that cannot plan answers directly, and that is said.",
        "features.md O2, G15",
    ),
    "TEAM-07": Promise(
        "A result's consumption is that of the task and of all agents that worked for it, each "
        "model call counted once.",
        "features.md O2, S9; reliability.md R-04",
    ),
    "TEAM-08": Promise(
        "Whatever a model says, a plan and a delegation end within the steps of their task, and "
        "their journals replay to the same decisions.",
        "reliability.md R-06",
    ),
}
