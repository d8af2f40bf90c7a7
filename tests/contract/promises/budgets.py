"""Promises: tokens and money, held and settled."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

BUDGETS: dict[str, Promise] = {
    "BUDGET-01": Promise(
        "Used and held tokens never exceed the limit of the day, at no instant and with any number "
        "of callers and replicas, and nearly all of the limit can be used.",
        "reliability.md R-19; features.md G7; issue 5",
    ),
    "BUDGET-02": Promise(
        "What a dead process held comes back with its lease, and each of its requests has exactly "
        "one usage row: its own, or one that says it was lost.",
        "reliability.md CP-11 to CP-14, R-04",
    ),
    "BUDGET-03": Promise(
        "The ledger has exactly the tokens that the provider counted, through callers that leave, "
        "retries, and streams that break.",
        "issue 5; reliability.md R-14, F-57",
    ),
    "BUDGET-04": Promise(
        "With Redis away, all replicas together give out no more than the limit, and what they "
        "gave out is counted when it is back, also when it comes back empty.",
        "reliability.md R-20",
    ),
    "BUDGET-05": Promise(
        "Whoever asks sees of each budget what is used, what running calls hold, the limit, and "
        "when the day ends.",
        "features.md G7, M5",
    ),
    "BUDGET-06": Promise(
        "A deployment is asked for no more requests and tokens a minute, and no more at once, than "
        "it can carry, by all replicas together.",
        "deployment.proto; features.md M2",
    ),
}
