"""Promises: what happens to a token between a provider and a client."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

STREAM: dict[str, Promise] = {
    "STREAM-01": Promise(
        "A client that keeps up gets every token as it comes: nothing waits for a timer or for "
        "the next one.",
        "features.md M7; issue 5, Build 8",
    ),
    "STREAM-02": Promise(
        "Text that comes while a client does not keep up leaves as one event when it does: in "
        "order, nothing lost, and before whatever follows it.",
        "features.md M7; issue 5, Build 8",
    ),
    "STREAM-03": Promise(
        "The event of merged text carries the id of its last part, so that a reader who comes "
        "back misses nothing and sees nothing twice.",
        "features.md M7, reliability.md R-11",
    ),
}
