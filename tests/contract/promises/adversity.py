"""Promises: what holds when something dies, and when somebody attacks."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

CRASHES: dict[str, Promise] = {
    "CRASH-01": Promise(
        "A killed client resumes with Last-Event-ID; the pieces add up to the stored answer.",
        "issue 2, Must show; reliability.md R-13",
    ),
    "CRASH-02": Promise(
        "After kill -9 of the platform a turn ends restarted and completed, or failed with a "
        "reason; no message is lost, nothing stored twice, the engines died with the platform.",
        "issue 2, Must show; build 6",
    ),
    "CRASH-03": Promise(
        "A service that dies is started again, and a running turn completes: an answer that broke "
        "off with its model router is begun again, and what was shown of it is taken back.",
        "features.md C2, G4; reliability.md R-01, CP-13",
    ),
    "CRASH-05": Promise(
        "SIGTERM lets running turns finish; a second one ends the platform at once.",
        "house.md 3.6; issue 2, build 5",
    ),
    "CRASH-04": Promise(
        "After kill -9 while a document is indexed it becomes ready, once.", "features.md R2"
    ),
    "CACHE-01": Promise(
        "A cache that loses everything amid the traffic loses no turn, no message and no word of a "
        "stream, also for readers elsewhere.",
        "issue 4, Must show; features.md S6",
    ),
}

STORM: dict[str, Promise] = {
    "STORM-01": Promise(
        "Whatever dies between writer and ledger, the ledger is what was produced, to the token, "
        "in order per key; the outbox is empty 5 s after the last thing is mended.",
        "issue 3, Must show; reliability.md B0",
    ),
    "STORM-02": Promise(
        "A minute without Kafka fails no call; what waited is caught up at five times the rate at "
        "which it came, and billed once.",
        "issue 3, Must show; features.md E5",
    ),
}

SECURITY: dict[str, Promise] = {
    "DOOR-01": Promise(
        "No method of the mesh answers without a credential, whatever else the caller claims.",
        "reliability.md S-23, S-24",
    ),
    "DOOR-02": Promise(
        "A token with a wrong claim, key, algorithm or header opens no method.",
        "reliability.md S-17 to S-21, S-25",
    ),
    "DOOR-03": Promise("Two authorizations are refused.", "reliability.md S-24"),
    "DOOR-04": Promise(
        "Each method wants its permission; those of the mesh itself no user ever holds.",
        "reliability.md S-26",
    ),
    "DOOR-05": Promise("A path spelt otherwise leads nowhere.", "reliability.md S-27"),
    "DOOR-06": Promise(
        "A message over the limit, or that is none, is refused and tells nothing of the inside.",
        "reliability.md S-37b",
    ),
    "DOOR-07": Promise(
        "Methods of later versions are there and say so, behind their permission.",
        "issue 2, Build 2",
    ),
    "INPUT-01": Promise(
        "No route takes a body that is broken, too long, too deep, doubled, of another form or "
        "with a field that it does not know; each says why in the shape of its family.",
        "issue 2, Must show; reliability.md S-28, S-33; conventions.md E1, E11",
    ),
    "INPUT-02": Promise(
        "What is fine as JSON and does not fit the mesh is refused by name, or arrives whole.",
        "reliability.md S-33",
    ),
    "INPUT-03": Promise(
        "What a service behind the gateway refuses is named as the caller wrote it.",
        "issue 2, Must show; conventions.md E11",
    ),
    "INPUT-04": Promise(
        "Bad requests leave the platform's memory as it was.", "reliability.md S-33"
    ),
    "TENANT-01": Promise(
        "Every id of another tenant, in whatever place of the API, answers as an absent one, and "
        "nothing of the other tenant changes.",
        "reliability.md S-01, R-21",
    ),
    "TENANT-02": Promise(
        "No list, search, answer or record shows what another tenant has.",
        "reliability.md S-01, S-14",
    ),
    "TENANT-03": Promise(
        "What one user of a tenant said and did, another user does not find.",
        "reliability.md S-02",
    ),
    "TENANT-05": Promise(
        "Every method and every route that there is, called with another tenant's ids, answers "
        "as for absent ones, tells nothing of it and changes nothing of it. One that the matrix "
        "cannot try fails.",
        "issue 4, Must show; reliability.md S-01, R-21",
    ),
    "TENANT-06": Promise(
        "So it is when every check of tenant and user in the application's statements is switched "
        "off: row-level security alone keeps tenants apart.",
        "issue 4, Must show; reliability.md R-21",
    ),
    "FILE-01": Promise(
        "Bombs, circles, foreign entities and damaged files end as failed with a reason.",
        "issue 2, Must show; reliability.md S-35",
    ),
    "FILE-02": Promise(
        "A file that is refused leaves no row of a document and no object.",
        "issue 2, Must show",
    ),
    "FILE-03": Promise(
        "The name and the text of a file are only ever shown: no path, no control, no event.",
        "reliability.md S-36, S-66",
    ),
    "RUDE-01": Promise(
        "A turn outlives a client that leaves or never reads, unless it was to be cancelled then.",
        "issue 2, Must show; reliability.md F-48",
    ),
    "RUDE-02": Promise("An upload that breaks off leaves nothing.", "reliability.md F-49"),
    "RUDE-03": Promise(
        "Silent and half-spoken connections keep nobody else waiting and take little memory.",
        "reliability.md S-37c",
    ),
    "RUDE-04": Promise("Many uploads at once are each stored once.", "reliability.md S-37d"),
    "RUDE-05": Promise(
        "A revoked or expired key opens nothing five seconds later, and answers as an unknown one.",
        "reliability.md R-23",
    ),
    "START-01": Promise(
        "A base URL that leads to no model is told as what is wrong with it, without the key.",
        "issue 2, Must show",
    ),
    "START-02": Promise(
        "A base URL that is none stops the start by the name of its setting.",
        "issue 2, Must show",
    ),
    "RUDE-06": Promise(
        "A cursor is for one turn and an idempotency key for one body.",
        "conventions.md E5, E11",
    ),
}
