"""Promises: what is remembered beyond a session."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

MEMORY: dict[str, Promise] = {
    "MEM-01": Promise(
        "What is remembered is recalled when the call returns, by nobody else; what says the same "
        "renews it, what contradicts it takes its place.",
        "issue 4, build 3; features.md S3",
    ),
    "MEM-02": Promise(
        "What is forgotten is not recalled when the call returns, and not told to any agent.",
        "issue 4, build 3 and 8",
    ),
    "MEM-03": Promise(
        "Nothing that rests on documents or tools takes the place of what the user said; agents "
        "are told it apart, and nothing remembered as an instruction.",
        "issue 4, build 3 (provenance); memory_service.proto, MemoryOrigin",
    ),
    "MEM-04": Promise(
        "After N turns a session is summarised once, what the user said of lasting things is "
        "remembered, and a new session is answered with it; fewer turns are kept and continued.",
        "features.md S4; issue 4, build 3",
    ),
    "MEM-05": Promise(
        "Of N turns one write goes to the vector store, not one a turn.",
        "issue 4, Must show (vector writes <= 10 %)",
    ),
    "MEM-07": Promise(
        "`meshwright memories` lists, finds and forgets what is remembered of the key's user.",
        "issue 4, build 3; features.md X (command line)",
    ),
    "MEM-06": Promise(
        "A process that starts anew, its caches emptied, answers with what was remembered.",
        "features.md S6; issue 4, build 3 (cold start)",
    ),
}
