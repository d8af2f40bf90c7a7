"""Promises: whoever is erased is gone from every store, verified, with a receipt."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

ERASURE: dict[str, Promise] = {
    "ERASE-01": Promise(
        "An erased user is in no table, cache, index or object, by id or by word, but for what the"
        " receipt names; everybody else keeps all they have.",
        "features.md S12; reliability.md I8; issue 4, Build 8",
    ),
    "ERASE-02": Promise(
        "An erased tenant leaves a tombstone without names, its audit log and its receipt; its keys"
        " are destroyed, and other tenants are as before.",
        "features.md S12; reliability.md R-21, I8; issue 4, Build 8",
    ),
    "ERASE-03": Promise(
        "What an erased user consumed stays in the sums of the tenant, as nobody's.",
        "features.md S9, S12; docs/adr/0019",
    ),
    "ERASE-04": Promise(
        "The receipt names each store and what stays, is an event, and its signature shows any"
        " change.",
        "features.md S12; issue 4, Build 8",
    ),
    "ERASE-05": Promise(
        "Work that still runs ends, and what a late writer wrote is found by the last look.",
        "issue 4, Build 8; docs/adr/0019",
    ),
    "ERASE-06": Promise(
        "Every table, family of keys and folder of objects is in a list of what is erased, or an"
        " exception with its reason.",
        "features.md S12, S13; found while building: lists are forgotten",
    ),
    "ERASE-07": Promise(
        "Documents that an erased user uploaded can stay, without a word of who did.",
        "docs/adr/0019",
    ),
    "ERASE-08": Promise(
        "Only administrators erase users, nobody one who holds more, nobody the last owner; only"
        " owners erase their tenant.",
        "reliability.md S-01; docs/adr/0019",
    ),
    "ERASE-09": Promise(
        "An erasure converges to one receipt, whichever process is killed and however long a"
        " service is away; it is never completed while one has not answered.",
        "reliability.md CP-29; issue 4, Build 8",
    ),
}
