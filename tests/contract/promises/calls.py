"""Promises: what holds for every call between services, on every channel."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

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
    "CH-20": Promise(
        "Requests of a call that was cut off never look whole to the handler.",
        "found while building: grpc.aio ends them, and cancels the handler a moment later",
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
