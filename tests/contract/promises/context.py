"""Promises: contexts and their versions, the levels of memory in front of them."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

CONTEXT: dict[str, Promise] = {
    "CONTEXT-01": Promise(
        "Replicas that are killed and a Redis that is emptied lose no acknowledged turn or "
        "message, and store none twice.",
        "issue 4, Must show; features.md S5, S6",
    ),
    "CONTEXT-02": Promise(
        "What is read after an acknowledged write, through whichever replica, has it.",
        "issue 4, Must show; features.md S3",
    ),
    "CONTEXT-03": Promise(
        "Sequences of messages and versions of contexts have no gaps; no version has two writers.",
        "issue 4, Must show; features.md S2",
    ),
    "CONTEXT-04": Promise(
        "Of two writers of a context one wins; the other gets CONTEXT_VERSION_CONFLICT with the "
        "current version, and loses nothing.",
        "issue 4, build 2",
    ),
    "CONTEXT-05": Promise(
        "A version that is kept is restored as it was, by a new version, once per idempotency key.",
        "features.md S2",
    ),
    "CONTEXT-06": Promise(
        "The difference of two versions is a JSON Patch that leads from one to the other.",
        "features.md S2",
    ),
    "CONTEXT-07": Promise(
        "A crash of PostgreSQL takes no turn that was committed; a question that it takes, because "
        "nobody waited for the disk, is stored again with its answer, in order.",
        "features.md S5; docs/adr/0016",
    ),
}
