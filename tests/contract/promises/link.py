"""Promises: what the stream that two processes share adds to those of every channel."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

LINK: dict[str, Promise] = {
    "LK-01": Promise(
        "An idle link sends at once; what queues while it writes leaves together, and a long "
        "message lets the others pass.",
        "performance.md 4, finding 3; issue 5, Build 8",
    ),
    "LK-02": Promise(
        "A slow reader stops its own stream alone, and no more than a window of it is held.",
        "performance.md 4, own flow control",
    ),
    "LK-03": Promise(
        "Calls to a peer that dies end UNAVAILABLE at once, after what had arrived; calls to its "
        "successor are served.",
        "reliability.md D2; issue 5, Build 8",
    ),
    "LK-04": Promise(
        "Calls to a peer that stands still end at their deadlines, and it serves again when it "
        "goes on.",
        "reliability.md D1",
    ),
    "LK-05": Promise(
        "A server that stops lets running calls end and refuses others as not begun.",
        "house.md 3.6; features.md G11",
    ),
    "LK-06": Promise(
        "On the same port plain clients are served, and a peer without links is called plainly.",
        "house.md 3.5; issue 5, Build 8",
    ),
    "LK-07": Promise(
        "What is no frame, or more than there was room for, ends a link or a call and nothing "
        "else.",
        "reliability.md D1, message size",
    ),
    "LK-08": Promise(
        "All links of a process together run at most so many calls as are set.",
        "reliability.md R-16",
    ),
    "LK-09": Promise(
        "A link is replaced while calls run on it, and fails none.",
        "reliability.md R-18",
    ),
}
