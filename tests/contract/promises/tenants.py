"""Promises: what plans and operators can rely on."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

TENANTS: dict[str, Promise] = {
    "PLAN-01": Promise(
        "However many sessions are created at once, as many exist as the quota says; a refusal "
        "names the quota, what is used, the limit and the plan.",
        "features.md S7; issue 4, tenants",
    ),
    "PLAN-02": Promise(
        "However many turns are begun at once, as many run as the quota says; another one begins "
        "when one has ended.",
        "features.md S7; reliability.md R-19",
    ),
    "PLAN-03": Promise(
        "Documents and their bytes end at the quota; what is deleted makes room.", "features.md S7"
    ),
    "PLAN-04": Promise(
        "A tenant sees and uses the models of its plan alone, in OpenAI's API, too.",
        "features.md S7, M2",
    ),
    "PLAN-05": Promise(
        "With the tokens of the day spent, no turn, task, completion or embedding begins, until "
        "the limit is raised or the UTC day ends.",
        "features.md S7",
    ),
    "PLAN-06": Promise(
        "The limits of a tenant and what it uses of each are shown to its members.",
        "features.md S7",
    ),
    "PLAN-07": Promise(
        "At 80, 90 and 100 % of a quota the administrators of the tenant, and nobody else, find "
        "one notification each.",
        "features.md S7; issue 4, tenants",
    ),
    "PLAN-08": Promise(
        "A suspended tenant's calls are refused within 5 s and its streams end within 30 s, its "
        "turns cancelled; resumed, it calls again within 5 s and has lost nothing.",
        "reliability.md R-23",
    ),
    "PLAN-09": Promise(
        "A revoked key, a disabled user and a role taken away act within 5 s on new calls and "
        "within 30 s on open streams.",
        "reliability.md R-23, S-67",
    ),
    "PLAN-10": Promise(
        "Nobody changes a user who holds more, nor grants more than they hold; a tenant keeps an "
        "owner who can act.",
        "security row 28 of reliability.md; issue 4, tenants",
    ),
    "PLAN-11": Promise(
        "An operator lists, creates, limits, suspends and resumes tenants, their users and keys on "
        "the command line, for people and as JSON; a wrong limit is named.",
        "features.md P7; issue 4, tenants",
    ),
}
