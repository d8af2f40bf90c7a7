"""Promises: turns of a conversation beside each other, turns that wait, answers given again."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

TURNS: dict[str, Promise] = {
    "TURN-01": Promise(
        "A second question while a turn runs is refused, queued, takes its place, or rolls it "
        "back, as its request says; one turn of a session is at work at a time.",
        "features.md C3; pains.md 11",
    ),
    "TURN-02": Promise(
        "What an interrupted turn said is kept as an answer that says so; of one that was rolled "
        "back no reader, search or later turn sees anything, and the audit log has the fact.",
        "features.md C3",
    ),
    "TURN-03": Promise(
        "A turn that waits for a person says what for, counts as no running turn, and goes on in "
        "every stream that follows it when the answer is there, also over a restart.",
        "features.md O7, C2; pains.md 5, 7",
    ),
    "TURN-04": Promise(
        "The last question of a session is answered again in its place; the answer of before "
        "stays readable as a turn.",
        "features.md C4",
    ),
    "TURN-05": Promise("The last rating of a finished turn counts.", "features.md C4"),
    "TURN-06": Promise(
        "A chat process that is killed amid any policy leaves a session that comes to the end "
        "that was asked for, with no turn lost, run twice or beside another.",
        "features.md C3; reliability.md R-13",
    ),
}
