"""Promises: how processes find each other, share calls, and trust each other."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

MESH: dict[str, Promise] = {
    "MESH-01": Promise(
        "Restarting two instances of each service under load fails no call and loses no turn.",
        "reliability.md R-18; issue 3, Must show",
    ),
    "MESH-02": Promise(
        "A registry that is away, and comes back knowing nobody, fails no call.",
        "reliability.md fault 36",
    ),
}

REGISTRY: dict[str, Promise] = {
    "RG-01": Promise(
        "Who watches a peer gets its instances with their weights, those now and after each "
        "change; the same ones are told once.",
        "features.md P2",
    ),
    "RG-02": Promise(
        "An answer that knows nobody, and an outage, leave the last good answer.",
        "reliability.md fault 36; D2, Consul",
    ),
    "RG-03": Promise(
        "A process registers each of its services with address, weight and tags, and takes that "
        "back; taking back what is not there does nothing.",
        "features.md P2",
    ),
    "RG-04": Promise(
        "A registry that is away delays the registration, not the process; one that forgot "
        "everything is told again.",
        "reliability.md F, Consul; degradation table",
    ),
    "RG-05": Promise("A weight that changes noticeably is told.", "features.md O8, P2"),
    "RG-06": Promise(
        "A process that is gone without a word is no longer listed when its time is over.",
        "reliability.md D2, TTL check 10 s",
    ),
    "RG-07": Promise(
        "Only who holds the token registers, and the token is in no log.",
        "reliability.md S-30, ACL default deny",
    ),
}

BALANCING: dict[str, Promise] = {
    "BL-01": Promise("Calls are spread by weight, smoothly.", "features.md P2"),
    "BL-02": Promise(
        "A new instance gets calls within a second; one that has left gets no new ones, and its "
        "streams end in peace.",
        "features.md P2, G11; issue 3, Build 6",
    ),
    "BL-03": Promise(
        "An instance whose calls keep failing is left out, ever longer, never more than half; one "
        "that was started again is called at once.",
        "reliability.md D2, outlier ejection",
    ),
    "BL-04": Promise(
        "A repeated call goes to another instance.", "reliability.md D1, retry; issue 3, Build 6"
    ),
    "BL-05": Promise(
        "A call of which nothing was sent is repeated whatever it does; one that may have been "
        "received only if it is idempotent.",
        "reliability.md R-03, D1",
    ),
    "BL-06": Promise(
        "A call waits for an instance that is being connected, and for a peer that was never met "
        "until it was tried once more; it fails at once when none can be reached any more.",
        "gRPC's rule for CONNECTING and TRANSIENT_FAILURE",
    ),
}

TLS: dict[str, Promise] = {
    "TLS-01": Promise(
        "With certificates, calls between services pass; without one, with one of another "
        "authority, or an expired one, they do not.",
        "features.md P3; reliability.md S-23",
    ),
    "TLS-02": Promise(
        "A certificate of one service does not pass for another service.",
        "reliability.md S-30",
    ),
    "TLS-03": Promise(
        "New certificate files are used without a restart and without a failed call; bad ones are "
        "not taken.",
        "features.md P3; issue 3, Build 7",
    ),
    "TLS-04": Promise(
        "dev-certs makes an authority and a certificate per service, and overwrites nothing "
        "unasked.",
        "issue 3, Build 7",
    ),
    "TLS-05": Promise(
        "The platform, and the commands that look at it, run over mutual TLS.",
        "features.md P3",
    ),
}
