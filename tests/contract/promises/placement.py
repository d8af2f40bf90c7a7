"""Promises: a tenant with a schema of its own, behind the same tables and queries."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

PLACEMENT: dict[str, Promise] = {
    "PLACE-01": Promise(
        "A tenant that moves into its own schema keeps every row, and every call answers as before;"
        " others, who ask all the while, notice nothing.",
        "features.md S8; issue 4, build 4",
    ),
    "PLACE-02": Promise(
        "All content of such a tenant lies in its own schema, old and new, and nobody else's; no "
        "service reaches the schema directly, and a query without a tenant finds none of it.",
        "features.md S8; reliability.md S-03, R-31",
    ),
}
