"""Promises: what becomes of calls when providers fail."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

MODEL_FAILURES: dict[str, Promise] = {
    "FAULT-01": Promise(
        "Every fault of a provider that nobody else can answer for is told as what it is, over "
        "OpenAI's wire and in a turn, streamed and not; a broken answer never looks complete.",
        "reliability.md F-52 to F-56; issue 5, Must show",
    ),
    "FAULT-02": Promise(
        "With a second deployment of the model, the caller notices nothing of a fault before the "
        "first piece, and nothing of one after it where nothing was shown yet.",
        "features.md M3; reliability.md F-53, D3",
    ),
    "FAULT-03": Promise(
        "A turn whose model breaks off amid its answer begins anew: the pieces behind the restart "
        "are the answer, wherever a reader resumes.",
        "features.md M3; reliability.md R-13, CP-13",
    ),
    "FAULT-04": Promise(
        "A fault that passes within three requests is not noticed, with Retry-After honoured.",
        "reliability.md D3, F-52",
    ),
    "FAULT-05": Promise(
        "Odd but lawful streams and untrue usage of a provider do not reach the caller.",
        "reliability.md F-56, F-57",
    ),
    "FAULT-06": Promise(
        "A model that asks for the same tool for ever is ended.", "reliability.md F-58"
    ),
    "FAULT-07": Promise(
        "A breaker that opens at one replica of the router is open at all within two seconds; one "
        "of them tries, and what it finds holds for all.",
        "features.md M3, G10; issue 5",
    ),
    "FAULT-08": Promise(
        "In steady failure a provider gets at most 1.1 times the requests that it would without "
        "repetition.",
        "reliability.md R-17",
    ),
}
