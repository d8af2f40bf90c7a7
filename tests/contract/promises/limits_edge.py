"""Promises: how many requests are let in, what happens with too many, what is repeated."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

REQUEST_LIMITS: dict[str, Promise] = {
    "RATE-01": Promise(
        "All limits of a request allow it and are charged, or none is charged.",
        "features.md G7",
    ),
    "RATE-02": Promise(
        "Gateways together let in exactly the limit, and give exactly the places, however many ask "
        "at once.",
        "features.md G7; reliability.md R-19",
    ),
    "RATE-03": Promise(
        "A user has the tier of the tenant's plan; a refusal is 429 with Retry-After and what is "
        "left, and the official client's own error.",
        "features.md G7, G9",
    ),
    "RATE-04": Promise(
        "Places are free again at once when a request ends or its client leaves, in whatever "
        "phase, and within a minute when its gateway was killed.",
        "reliability.md R-14, R-19, F-50",
    ),
    "RATE-05": Promise(
        "Limits change within 2 s of their file, and a wrong file changes nothing.",
        "features.md G7",
    ),
    "RATE-06": Promise(
        "While Redis is away each gateway grants its share, which counts afterwards; nothing is "
        "without a limit.",
        "reliability.md R-20",
    ),
    "RATE-07": Promise(
        "Who brings no key or a wrong one is counted by the address, which only a trusted proxy "
        "may tell.",
        "features.md G7; reliability.md C3",
    ),
}

OVERLOAD: dict[str, Promise] = {
    "OVER-01": Promise(
        "At three times the capacity goodput stays at 90 % of what it can be, refusals are quick, "
        "and all is normal within 10 s after.",
        "reliability.md R-16",
    ),
    "OVER-02": Promise(
        "The more important requests come first; a running stream takes no place, and health is "
        "always answered.",
        "reliability.md R-16, D2",
    ),
    "OVER-03": Promise(
        "Through four hops to something that always fails, requests at the bottom are at most 1.1 "
        "times what was asked for.",
        "reliability.md R-17",
    ),
    "OVER-04": Promise(
        "Whoever serves a repeated call repeats nothing below.", "reliability.md R-17"
    ),
}
