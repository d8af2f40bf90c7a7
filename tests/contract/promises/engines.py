"""Promises: what holds for work queues and for stores, whichever engine serves them."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

DISPATCH: dict[str, Promise] = {
    "DQ-01": Promise(
        "What was put is stored, and taken by one taker as it was put.",
        "features.md O5; reliability.md D6, publisher confirms",
    ),
    "DQ-02": Promise(
        "An item that no queue takes is an error of the putting, never lost in silence.",
        "reliability.md D6, mandatory; issue 3, Build 2",
    ),
    "DQ-03": Promise("A wrong item is refused by the name of its field.", "conventions.md E11"),
    "DQ-04": Promise(
        "What a taker that died had not settled comes again.", "reliability.md D6, manual ack"
    ),
    "DQ-05": Promise(
        "An item delivered more than 5 times without being settled is a dead letter.",
        "reliability.md D6, delivery limit; R-11",
    ),
    "DQ-06": Promise(
        "A failed item comes again after 1, 2, 4 s and a little, then it is a dead letter.",
        "features.md O5 and defaults, task retry",
    ),
    "DQ-07": Promise("A rejected item is a dead letter with its reason.", "features.md O5"),
    "DQ-08": Promise(
        "An item that waited for longer than it is good for is a dead letter.", "features.md O5"
    ),
    "DQ-09": Promise(
        "Lanes are served by their weights, and none starves.",
        "features.md O5; issue 3, Build 2",
    ),
    "DQ-10": Promise(
        "What a busy taker was given and did not ask for goes to others.",
        "found while building: prefetched items wait for the longest task",
    ),
    "DQ-11": Promise(
        "A status reaches everybody who listens.", "protocol.md, agent_status; features.md O8"
    ),
    "DQ-12": Promise("A wrong status is refused by the name of its field.", "conventions.md E11"),
    "DQ-20": Promise(
        "Queues in RabbitMQ have the properties of the design, read back from the server.",
        "reliability.md D6",
    ),
    "DQ-21": Promise(
        "Queues that are deleted while everything runs are made again, and the loss is told.",
        "issue 3, Must show",
    ),
    "DQ-22": Promise(
        "A server that is killed is an error for whoever puts; takers go on by themselves within "
        "10 s of its return.",
        "reliability.md F-28",
    ),
    "DQ-23": Promise(
        "A server that stands still, or blocks publishers, is an error within 6 s.",
        "reliability.md F-29",
    ),
    "DQ-24": Promise(
        "A full queue refuses; it drops nothing.", "reliability.md D6, reject-publish"
    ),
    "DQ-25": Promise(
        "A body that is none of ours is a dead letter with the reason, others unharmed.",
        "issue 3, Must show, bad input",
    ),
    "DISPATCH-01": Promise(
        "RabbitMQ stopped, its queues deleted, started again, workers killed: every accepted task "
        "is executed, ends once, and is told once.",
        "issue 3, Must show; reliability.md R-01",
    ),
    "DQ-26": Promise(
        "Queues of other properties stop the start with what to do, and are left alone.",
        "reliability.md D6",
    ),
}

STORES: dict[str, Promise] = {
    "STORE-01": Promise(
        "Every vector and full-text store ranks the labelled passages first, in two languages, as "
        "soon as the document answers.",
        "features.md R3; engines.md Decisions",
    ),
    "STORE-02": Promise(
        "No search of a tenant finds, counts or removes anything of another one, whatever ids and "
        "values it names.",
        "reliability.md R-21, S-09, S-11",
    ),
    "STORE-03": Promise(
        "Passages that are put again are there once, and an index that lost some is filled again "
        "before its document becomes ready.",
        "reliability.md CP-27, I8",
    ),
    "STORE-04": Promise(
        "An index that is being built is not seen; the old one answers until then and is gone "
        "afterwards, and a deleted document leaves nothing.",
        "features.md R1, R2; reliability.md I8",
    ),
    "STORE-05": Promise(
        "With one store killed or paused the other answers and the answer says so; with both away "
        "the search says that; all is well again without a restart.",
        "features.md R4; reliability.md R-29, F-32, F-33, F-34",
    ),
    "STORE-06": Promise(
        "Indexing and deleting wait for a store that is away.", "reliability.md F-32"
    ),
    "STORE-07": Promise(
        "The platform migrates on PostgreSQL 15 without pgvector, no table is open, and documents "
        "are indexed and found there.",
        "engines.md Decisions; reliability.md R-31",
    ),
    "STORE-08": Promise(
        "An object is stored whole or not at all, and read back whole or not at all, in files and "
        "in S3.",
        "reliability.md F-35, D7",
    ),
    "STORE-09": Promise(
        "No key leads out of the object store's place.", "reliability.md S-12, S-36"
    ),
    "STORE-10": Promise(
        "The journal of turns keeps its promises on Valkey, Redis and a cluster of three.",
        "reliability.md R-13; engines.md Decisions",
    ),
    "STORE-11": Promise(
        "Of a cluster, a slot that moves is followed, and a node that is lost is missed within "
        "seconds and found again without a restart.",
        "reliability.md F-12, F-13, F-14",
    ),
}
