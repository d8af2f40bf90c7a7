"""Promises: stored answers."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

CACHES: dict[str, Promise] = {
    "ANSWER-01": Promise(
        "Who asks for stored answers gets the answer to the same request again, streamed or not, "
        "for nothing, and `x-cache` and `age` say so; who does not ask gets a new one.",
        "features.md M4; issue 5, build 5 (exact, opt-in per request, x-cache truth)",
    ),
    "ANSWER-02": Promise(
        "On request a question that means the same gets the same answer; one with another number "
        "or a negation does not.",
        "features.md M4; issue 5, build 5 (semantic)",
    ),
    "ANSWER-03": Promise(
        "Another tenant, other rights, changed guards, a private answer of another user: nothing "
        "of it is told.",
        "pains.md 29; issue 5, build 5 (keyed by tenant, rights and policy version)",
    ),
    "ANSWER-04": Promise(
        "The same call many times at once makes one call to the provider.",
        "issue 5, build 5 (single-flight)",
    ),
    "ANSWER-05": Promise(
        "An emptied Redis costs a miss and nothing else; what is in it can be read by nobody.",
        "ADR 0014; reliability.md F-13",
    ),
    "ANSWER-06": Promise(
        "A header that cannot be read is refused with what may be said.",
        "features.md G9 (clear errors)",
    ),
}
