"""Promises: the WebSocket of the public API."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

SOCKET: dict[str, Promise] = {
    "WS-01": Promise(
        "One socket carries many conversations at once; each is told by the same events as its "
        "stream by HTTP.",
        "features.md G3",
    ),
    "WS-02": Promise(
        "A question of a task is told, and answered, over the socket; the task goes on.",
        "features.md G3, O7",
    ),
    "WS-03": Promise(
        "After a broken socket a turn goes on, and another socket, of any device of its user, "
        "gets every event that the first one did not.",
        "features.md G3, G4",
    ),
    "WS-04": Promise(
        "The user is told over the socket how a task ended that nobody followed.",
        "features.md G3, G7",
    ),
    "WS-05": Promise(
        "What a message asks for is allowed to its caller or refused as by HTTP: others' turns, "
        "tasks and questions are not there.",
        "features.md G3; security.md, tenants",
    ),
    "WS-06": Promise(
        "Wrong messages, too many conversations and pages of unknown origins are refused by name; "
        "the socket stays where it can.",
        "house.md, inputs",
    ),
}
