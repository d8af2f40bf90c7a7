"""Promises: stored content is sealed, and its keys can be replaced and destroyed."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

ENCRYPTION: dict[str, Promise] = {
    "SEAL-01": Promise(
        "Sealed content opens in its own row, column, table and tenant, under its own version of "
        "the key and whole, or not at all; no nonce is used twice.",
        "features.md S11; reliability.md S-71, R-25",
    ),
    "SEAL-02": Promise(
        "Data keys and master keys are replaced under writers and readers; whatever dies half-way, "
        "both versions open, nothing is lost, and the next run goes on.",
        "features.md S11; reliability.md S-71, CP-35",
    ),
    "SEAL-03": Promise(
        "A service's role changes no key and sees no key of another tenant.",
        "features.md S11; reliability.md R-21",
    ),
    "SEAL-04": Promise(
        "Without a master key nothing starts, and the setting that is missing is named.",
        "features.md S11",
    ),
    "SEAL-05": Promise(
        "Destroyed keys open nothing in any process five seconds later, and are not made again.",
        "features.md S11, S10; reliability.md R-23",
    ),
    "SEAL-06": Promise(
        "What was said in a turn stands in no column, no key of Redis and no object of the running "
        "platform in plain, and no hash of it that a guess could be checked against.",
        "features.md S11; reliability.md R-25",
    ),
    "SEAL-07": Promise(
        "Operators see which keys there are, rotate, rewrap and retire them from the terminal.",
        "features.md S11; issue 4, build 7",
    ),
}
