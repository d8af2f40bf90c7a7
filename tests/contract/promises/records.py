"""Promises: what the usage ledger and the audit log can prove."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

RECORDS: dict[str, Promise] = {
    "REC-01": Promise(
        "Usage is summed by user, model, day and feature in any combination, of a tenant as a "
        "whole, and over months.",
        "features.md S9; issue 4, Build 5",
    ),
    "REC-02": Promise(
        "The usage ledger is compared call by call with the events, and sums with rows: what is "
        "missing, doubled, without event or different is named, and lost calls and sums are "
        "repaired exactly.",
        "issue 4, Build 5; reliability.md R-10, I4",
    ),
    "REC-03": Promise(
        "The usage ledger is exported as CSV, Parquet and lines of JSON with the same rows: money "
        "in whole numbers, no cell a formula.",
        "issue 4, Build 5",
    ),
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
    "REC-07": Promise(
        "An audit log is verified by call, route and command, with a public key kept elsewhere "
        "too; they name the same first bad record.",
        "features.md S10; reliability.md R-24, I11",
    ),
    "REC-08": Promise(
        "Refused logins and denied calls are in the audit log, counted together: trying often "
        "makes no more records, and none holds a key.",
        "issue 4, Build 6; reliability.md R-24",
    ),
}
