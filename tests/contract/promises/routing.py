"""Promises: what tenants and operators say about models, and when it counts."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

ROUTING: dict[str, Promise] = {
    "RT-01": Promise(
        "A deployment that a tenant makes takes calls 2 s later at most, without a restart, and "
        "is listed beside the operator's; when it is disabled or removed, calls end as fast.",
        "features.md M2",
    ),
    "RT-02": Promise(
        "No other tenant sees, uses or changes a tenant's deployments, policies and prices.",
        "features.md M2; reliability.md R-21",
    ),
    "RT-03": Promise(
        "A deployment goes only where the operator lets it, and a key only to its own hosts, for "
        "its own tenants.",
        "features.md M2; reliability.md S-38",
    ),
    "RT-04": Promise(
        "A call costs what was in force when it began; prices have a history that stays.",
        "features.md M5",
    ),
    "RT-05": Promise(
        "A change needs the etag that was read, and the same request makes one deployment.",
        "protos routing_service.proto",
    ),
    "RT-06": Promise(
        "What a tenant changes and what the operator's file says is in force on every replica 2 s "
        "later at most.",
        "features.md M2",
    ),
    "RT-07": Promise(
        "A file of models that is half-written or wrong changes nothing: the last good one stays "
        "in force on every replica.",
        "reliability.md F-63",
    ),
    "RT-08": Promise(
        "The commands `meshwright routes` show and change deployments, policies and prices.",
        "features.md P7",
    ),
}
