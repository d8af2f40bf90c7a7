"""Promises: what the usage ledger and the audit log can prove."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

RECORDS: dict[str, Promise] = {
    "REC-04": Promise(
        "Changing, removing, adding, swapping or rewriting audit records, their end or their "
        "checkpoints, at 1 000 random places and as a superuser: each is detected and named.",
        "issue 4, Must show; reliability.md R-24, S-70",
    ),
}
