"""Promises: what the usage ledger and the audit log can prove."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

RECORDS: dict[str, Promise] = {
    "REC-04": Promise(
        "Changing, removing, adding, swapping or rewriting audit records, their end or their "
        "checkpoints, at 1 000 random places and as a superuser: each is detected and named.",
        "issue 4, Must show; reliability.md R-24, S-70",
    ),
    "REC-05": Promise(
        "A new audit record is covered by a signed checkpoint in time, in a table and in object "
        "storage, whatever dies in between and however many processes sign; nothing overwrites a "
        "copy.",
        "features.md S10; reliability.md R-24, CP-34",
    ),
    "REC-06": Promise(
        "Audit records go by whole months, none before its time, and the rest of each chain "
        "verifies from a signed anchor on; writers are not held up.",
        "features.md S10, S13; issue 4, Build 6",
    ),
}
