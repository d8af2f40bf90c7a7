"""Promises: what holds for events, on every log, and for those who read them."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

EVENTS: dict[str, Promise] = {
    "EV-01": Promise(
        "No event without its change, no change without its event.", "reliability.md R-08"
    ),
    "EV-02": Promise("A committed event is handled within a second.", "reliability.md R-08"),
    "EV-03": Promise("Events of one key are handled in commit order.", "reliability.md R-09"),
    "EV-04": Promise(
        "An event whose transaction began earlier and committed later is not skipped.",
        "reliability.md A2, pitfall of R-08 and R-09",
    ),
    "EV-05": Promise(
        "Handling an event many times equals handling it once.", "reliability.md R-10"
    ),
    "EV-06": Promise("An event is handled under its own tenant.", "reliability.md R-21"),
    "EV-07": Promise(
        "A poisoned event delays no other key, is tried 5 times, then kept with its error.",
        "reliability.md R-11",
    ),
    "EV-08": Promise("A dead letter can be replayed.", "reliability.md R-11"),
    "EV-09": Promise(
        "What is away is waited for: an outage costs no tries and loses nothing.",
        "house.md 3.8, PostgreSQL down",
    ),
    "EV-10": Promise(
        "A consumer that buries all it sees stops itself.", "house.md 3.8, too many dead letters"
    ),
    "EV-11": Promise(
        "A consumer killed before or after its commit leaves each effect exactly once.",
        "house.md 3.8, crash table; CP-09, CP-16",
    ),
}

EVENTS_ON_KAFKA: dict[str, Promise] = {
    "EK-01": Promise(
        "The order of a key outlives relays that are killed, paused and taken over; several share "
        "the work.",
        "reliability.md R-09; house.md 3.8",
    ),
    "EK-02": Promise(
        "A broker that dies or answers nobody loses nothing, fails nobody's call, and events "
        "arrive within 5 s of its return.",
        "reliability.md R-08; F-18, F-20",
    ),
    "EK-03": Promise(
        "Rebalances while events are handled change nothing.", "house.md 3.8, crash table"
    ),
    "EK-04": Promise("Positions set back to the beginning change nothing.", "reliability.md R-10"),
    "EK-05": Promise(
        "What is no event of ours becomes a dead letter with reason and place; others are handled.",
        "issue 3, Must show; reliability.md F-13",
    ),
    "EK-06": Promise(
        "Producers, consumers and topics have the settings that delivery rests on.",
        "reliability.md D5",
    ),
    "EK-07": Promise(
        "Dead letters are told on the topic's dead-letter topic.", "house.md 3.8; protocol.md"
    ),
}

EVENT_SCHEMAS: dict[str, Promise] = {
    "ES-01": Promise(
        "docs/events is made from the protos and the topics, and says what they say now.",
        "features.md E6; issue 3, build 5",
    ),
    "ES-02": Promise(
        "The AsyncAPI document is valid AsyncAPI 3.0, and every channel there is stands in it.",
        "features.md E1, E6; issue 3, build 5",
    ),
    "ES-03": Promise(
        "No topic, key, event type, field, type or value of the released events goes away.",
        "features.md E6; issue 3, build 5",
    ),
    "ES-04": Promise(
        "What the services really send is as its schema says: headers, body, numbers, ids.",
        "features.md E2, E6",
    ),
}

EVENT_OPERATIONS: dict[str, Promise] = {
    "EO-01": Promise(
        "Operators see what each topic holds, who is how far behind, and events as they come; "
        "looking moves nobody's position.",
        "features.md E4, P7; issue 3, build 5",
    ),
    "EO-02": Promise(
        "A dead letter is found by what is known of it, shown whole, and applied once when "
        "replayed.",
        "features.md E4; issue 3, build 5",
    ),
    "EO-03": Promise(
        "A time range is replayed to one consumer: nothing is doubled in a ledger that has it, a "
        "ledger that lost it gets it back, in order per key.",
        "features.md E4; issue 3, build 5",
    ),
    "EO-04": Promise(
        "A replay leaves alone what the consumer has not handled: it comes by itself, in order.",
        "found while building: it would come before what stands ahead of it",
    ),
    "EO-05": Promise(
        "Every replay stands in the audit log of each tenant whose events it was.",
        "features.md S10",
    ),
    "EO-06": Promise(
        "Only the owner's login sees all tenants; a service's login is refused with what to do.",
        "features.md S8; reliability.md R-21",
    ),
    "EO-07": Promise(
        "`meshwright events` does all this from the command line, asks before it changes anything, "
        "and tells a mistake with what is right.",
        "features.md P7; issue 3, build 5",
    ),
}

SAMPLE_CONSUMERS: dict[str, Promise] = {
    "SC-01": Promise(
        "The Python sample counts each event once: killed, run again, its offsets lost, events "
        "sent twice.",
        "features.md E6; issue 3, build 5",
    ),
    "SC-02": Promise(
        "A topic is exported, each event once, and queried by SQL.", "issue 3, build 5"
    ),
    "SC-03": Promise(
        "The Parquet sink commits files exactly once: killed at any moment, rows are the events.",
        "issue 3, build 5",
    ),
    "SC-04": Promise("The samples import nothing of ours.", "issue 3, build 5"),
}
