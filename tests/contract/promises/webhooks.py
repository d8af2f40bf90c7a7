"""Promises: servers of a tenant that are told what happens."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

WEBHOOKS: dict[str, Promise] = {
    "HOOK-01": Promise(
        "The end of a task comes to each webhook that wants it as one message that the official "
        "library of Standard Webhooks verifies.",
        "features.md G14; issue 6, build 9",
    ),
    "HOOK-02": Promise(
        "A server that fails is told again, with the same webhook-id; what was delivered can be "
        "sent once more.",
        "features.md G14 (retried); issue 6, build 9 (redelivery)",
    ),
    "HOOK-03": Promise(
        "Addresses that are not public are refused when a webhook is made.",
        "features.md G14 (SSRF-safe)",
    ),
    "HOOK-04": Promise(
        "After a secret was replaced messages are signed with both until the old one expires.",
        "webhook_service.proto; the specification of Standard Webhooks",
    ),
    "HOOK-05": Promise(
        "A webhook hears nothing of another tenant, and what its filter does not name.",
        "webhook.proto; features.md S8",
    ),
    "HOOK-06": Promise(
        "An address that answers 410 is told nothing more, and the administrators are told that.",
        "webhook.proto; the specification of Standard Webhooks",
    ),
    "HOOK-07": Promise(
        "Webhooks are made, tested, listed with their deliveries, disabled and deleted by command.",
        "issue 6, build 9",
    ),
}
