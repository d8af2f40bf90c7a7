"""Promises: guards on what goes to models and what comes back."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

GUARDS: dict[str, Promise] = {
    "GUARD-01": Promise(
        "Input that a guard blocks is refused naming guard and category, in OpenAI's shape with "
        "its code `content_filter`, and recorded in the audit log; the text is quoted nowhere.",
        "features.md M6; issue 5, build 6",
    ),
    "GUARD-02": Promise(
        "What a guard redacts in an answer is replaced across the pieces of a stream, the same "
        "as without a stream.",
        "features.md M6; issue 5, build 6 (block or redact without holding the stream)",
    ),
    "GUARD-03": Promise(
        "An answer that a guard blocks ends there with `content_filter`, and nothing of what was "
        "found is sent.",
        "features.md M6; issue 5, build 6",
    ),
    "GUARD-04": Promise(
        "A guard is in force 2 s after it was set, is out of force as soon after it was removed, "
        "and applies to its tenant alone.",
        "guard_service.proto; features.md S8",
    ),
    "GUARD-05": Promise(
        "A text can be tried on the guards in force; a guard that cannot be used is refused by "
        "its field.",
        "guard_service.proto (CheckText); features.md G9",
    ),
    "GUARD-06": Promise(
        "`meshwright guards` sets, lists, tries and removes the tenant's guards.",
        "features.md P7",
    ),
}
