"""The manifest: every promise of the contract suites, its text and where it was made.

One mapping per area. `test_manifest.py` fails for a promise without a test and for a test whose
`@pytest.mark.promise("ID")` names no promise. To add an area: write its mapping, and name it in
the table at the end.
"""

from __future__ import annotations

from typing import NamedTuple


class Promise(NamedTuple):
    """What holds on every substrate, and the document that says so."""

    text: str
    source: str


CHANNEL: dict[str, Promise] = {
    "CH-01": Promise(
        "All four kinds of calls bring the same values through the same stub and servicer.",
        "house.md 3.5 table, row 1",
    ),
    "CH-02": Promise("Server interceptors run, outermost first.", "house.md 3.5 table, row 2"),
    "CH-03": Promise(
        "abort(code, details, trailing metadata) reaches the caller with all three.",
        "house.md 3.5 table, row 3; rule 7",
    ),
    "CH-04": Promise(
        "The deadline ends the call with DEADLINE_EXCEEDED, and its handler.",
        "house.md 3.5 table, row 4",
    ),
    "CH-05": Promise(
        "An abort in mid-stream delivers the items first, then the error.",
        "house.md 3.5 table, row 5",
    ),
    "CH-06": Promise(
        "An unmapped exception is INTERNAL with a fixed text; nothing of it leaves the server.",
        "house.md 3.5 rule 1",
    ),
    "CH-07": Promise(
        "Leaving open_stream, in whatever way, ends the handler.", "house.md 3.5 rule 2"
    ),
    "CH-08": Promise(
        "A cancelled handler runs its finally, whether it waits at an await or at a yield.",
        "house.md 3.5 rule 3; table, row 8",
    ),
    "CH-09": Promise(
        "A producer waits for a slow reader: it runs ahead by a bounded number of messages.",
        "house.md 3.5 rule 6; table, row 9",
    ),
    "CH-10": Promise(
        "Messages of a copying channel are not shared; of the plain local one they are.",
        "house.md 3.5 rule 4",
    ),
    "CH-11": Promise(
        "A handler runs in a task of its own with a fresh context: nothing but metadata arrives.",
        "house.md 3.5 rule 5",
    ),
    "CH-12": Promise(
        "A ServiceError arrives as the same: code, reason, text, metadata, violations, delay.",
        "house.md 3.5 table, last row; conventions.md E10",
    ),
    "CH-13": Promise(
        "Generated code registers with a server by exactly the two calls that LocalServer follows.",
        "house.md 3.5 rule 8",
    ),
    "CH-14": Promise("No message is over 4 MiB, either way.", "reliability.md D1, message size"),
    "CH-15": Promise(
        "A cancelled read ends the call; a cancelled await ends it too.", "grpc.aio's behaviour"
    ),
    "CH-16": Promise(
        "An error of the caller's request iterator reaches the caller as it is.",
        "found while building: grpc.aio forgets it",
    ),
    "CH-17": Promise(
        "A CancelledError that nobody asked for ends the call with a status.",
        "found while building: grpc.aio sends none and the caller waits",
    ),
    "CH-18": Promise(
        "A stopping server refuses new calls with UNAVAILABLE and lets running ones finish.",
        "house.md 3.6 step 4",
    ),
    "CH-19": Promise(
        "An error group of ServiceErrors arrives as the first of them.", "style.md, Async"
    ),
}

POLICY: dict[str, Promise] = {
    "PC-01": Promise(
        "A call gets the least of the method's deadline, the given one, and what is left - 50 ms.",
        "reliability.md D1, deadline and hop margin; R-15",
    ),
    "PC-02": Promise("With less than 20 ms left nothing is sent.", "reliability.md D1, hop margin"),
    "PC-03": Promise(
        "Identity, request id, correlation id and trace reach the handler.",
        "protocol.md, metadata on each call",
    ),
    "PC-04": Promise(
        "UNAVAILABLE of the transport is repeated up to 3 attempts, for idempotent methods only.",
        "reliability.md D1, retry; R-17",
    ),
    "PC-05": Promise(
        "Nothing is repeated once a message of the stream has arrived.", "house.md 3.7 step 3"
    ),
    "PC-06": Promise(
        "An UNAVAILABLE that the peer's own code decided on is not repeated: one layer repeats.",
        "reliability.md R-17",
    ),
    "PC-07": Promise(
        "In steady failure retries are at most a tenth of the calls.", "reliability.md R-17"
    ),
    "PC-08": Promise(
        "A peer that keeps failing is not asked for a while, then carefully.",
        "house.md 3.5; reliability.md D2, breaker",
    ),
    "PC-09": Promise(
        "A call without a deadline gets the method's own, for the handler and its calls.",
        "reliability.md D1, deadline",
    ),
    "PC-10": Promise("No call is made without a caller.", "architecture.md, principle 6"),
}

IDENTITY: dict[str, Promise] = {
    "S-23": Promise(
        "Every method of every service refuses a call without credentials, straight at the port.",
        "reliability.md C3",
    ),
    "S-24": Promise(
        "Metadata is never identity: claims are ignored, a second authorization is refused.",
        "reliability.md C3",
    ),
    "S-25": Promise(
        "A token that is expired, of another audience, or signed by another key is refused.",
        "reliability.md C3",
    ),
    "S-26": Promise(
        "A method without a declared permission stops the start; a missing permission is denied.",
        "reliability.md C3",
    ),
    "S-27": Promise(
        "Odd paths are not found, and nothing behind them is reached.", "reliability.md C3"
    ),
    "US-01": Promise(
        "A method that is declared and not yet served answers UNIMPLEMENTED, NOT_YET_SERVED.",
        "issue 2, build 2",
    ),
}

ERRORS: dict[str, Promise] = {
    "ER-01": Promise(
        "Every reason an error of ours can carry is declared in the protos with its code.",
        "style.md, Errors",
    ),
}

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

AREAS: dict[str, dict[str, Promise]] = {
    "channel": CHANNEL,
    "policy": POLICY,
    "identity": IDENTITY,
    "errors": ERRORS,
    "events": EVENTS,
}
