"""Promises: what tasks ask people, and what becomes of the answers."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

PEOPLE: dict[str, Promise] = {
    "PEOPLE-01": Promise(
        "A call that needs approval waits with its exact arguments; approved, it is made once, "
        "refused, never, and the agent is told why.",
        "features.md O7; reliability.md row 62",
    ),
    "PEOPLE-02": Promise(
        "The first answer counts: any other is told TASK_STATE, the same request is repeated.",
        "features.md O7; reliability.md R-12",
    ),
    "PEOPLE-03": Promise(
        "Only the owner of a task and the tenant's administrators see what it asks, and answer.",
        "features.md O7; reliability.md row 62",
    ),
    "PEOPLE-04": Promise(
        "An answer that does not fit the question is refused by the name of its field.",
        "house.md, inputs",
    ),
    "PEOPLE-05": Promise(
        "Who answered which question, and which call they decided on, stands in the audit log; "
        "the owner of a waiting task is notified.",
        "features.md O7, G7",
    ),
    "PEOPLE-06": Promise(
        "A hundred tasks that wait for people outlive the death of every process: each goes on "
        "once, each effect happens once, whatever is answered how often.",
        "issue 6, Must show",
    ),
    "PEOPLE-07": Promise("People answer by commands, which name what is asked.", "features.md O7"),
}
