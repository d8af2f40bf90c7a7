"""Promises: what becomes of sessions and of what was said in them."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

SESSIONS: dict[str, Promise] = {
    "SES-01": Promise(
        "Messages are found by all their words, newest first, by whoever said them and by nobody "
        "else.",
        "issue 4, build 1; features.md S1",
    ),
    "SES-02": Promise(
        "A branch begins with copies of the messages up to a point; what is said in it or in its "
        "parent afterwards stays there.",
        "issue 4, build 1",
    ),
    "SES-03": Promise(
        "An archived session comes back by itself, exactly, to whoever reads it or goes on in it.",
        "issue 4, build 1; features.md S1",
    ),
    "SES-04": Promise(
        "A session without a title is named by what its user says first.", "issue 4, build 1"
    ),
    "SES-05": Promise(
        "`meshwright sessions` lists, finds, branches, archives and restores.", "issue 4, build 1"
    ),
}
