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

PUBLIC: dict[str, Promise] = {
    "PUB-01": Promise(
        "A question about an uploaded document is answered from it, the passage cited.",
        "issue 2, Must show",
    ),
    "PUB-02": Promise(
        "The pieces of a stream, numbered without gaps, add up to the stored answer; so does an "
        "answer that is not streamed.",
        "protocol.md, turn and task streams; reliability.md R-13",
    ),
    "PUB-03": Promise("A question that needs the calculator runs it.", "issue 2, Must show"),
    "PUB-04": Promise(
        "A stream resumed after any event brings exactly the rest, 204 after the last one; "
        "a cursor of no event is refused.",
        "features.md G4; reliability.md R-13; conventions.md E5",
    ),
    "PUB-05": Promise(
        "The same Idempotency-Key with the same body is the same turn, with another body 422.",
        "features.md G8; reliability.md R-12",
    ),
    "PUB-06": Promise("A session keeps what was said, and the model sees it.", "features.md S1"),
    "PUB-07": Promise(
        "A cancelled turn ends with turn.cancelled for everybody who reads it.", "features.md C4"
    ),
    "PUB-08": Promise(
        "A provider that fails ends the turn with turn.failed and a stable reason, never silently.",
        "house.md 3.7 step 13; reliability.md F-52 to F-55",
    ),
    "PUB-09": Promise(
        "Each model call is in the usage ledger once, each act in the audit log once, and the "
        "audit chain verifies.",
        "features.md S9, S10",
    ),
}

NOTIFICATIONS: dict[str, Promise] = {
    "NT-01": Promise(
        "Whoever uploaded a document is told once that it is ready, or why it failed, without its "
        "name or text.",
        "issue 3, Build 4; protocol.md, Events",
    ),
    "NT-02": Promise(
        "Notifications are marked as read by id and by time, once; a mark of a wrong shape is "
        "refused by field.",
        "issue 3, Build 4; conventions.md E11",
    ),
    "NT-03": Promise(
        "The stream of notifications brings unread and new ones, each once, and is resumed after "
        "any of them.",
        "issue 3, Build 4; protocol.md, gateway push",
    ),
    "NT-04": Promise(
        "Nobody finds, marks or follows what others were told: foreign ids answer as absent ones.",
        "reliability.md R-21, S-02",
    ),
    "NT-05": Promise(
        "Each task that ended is in the statistics once, for those who may see it; whoever waited "
        "for it gets no notification.",
        "issue 3, Build 4; protocol.md, Events",
    ),
    "NT-06": Promise(
        "The owner of a submitted task is told once how it ended, without content.",
        "issue 3, Build 4; protocol.md, Events",
    ),
}

OPENAI: dict[str, Promise] = {
    "OAI-01": Promise(
        "Chat completions, streamed and not, with usage, work with the official client.",
        "features.md G2; conventions.md E1",
    ),
    "OAI-02": Promise("Tools of the client are called and answered.", "features.md G2"),
    "OAI-03": Promise("The built-in model answers without a provider.", "features.md M1"),
    "OAI-04": Promise(
        "Embeddings come in the order of their texts, of unit length.", "features.md G2"
    ),
    "OAI-05": Promise("Models are listed and found by name.", "features.md G2"),
    "OAI-06": Promise(
        "Errors are the exceptions that the official client knows, with their codes.",
        "conventions.md E1",
    ),
    "OAI-07": Promise("Calls over this wire are in the usage ledger.", "features.md S9"),
}

GRPC: dict[str, Promise] = {
    "GRPC-01": Promise(
        "A turn streams, and can be followed again after any sequence.", "features.md G4, C2"
    ),
    "GRPC-02": Promise(
        "A document is uploaded as a stream, watched until it is indexed, and found.",
        "protocol.md, rag/v1",
    ),
    "GRPC-03": Promise("Models generate and embed.", "protocol.md, model_router/v1"),
    "GRPC-04": Promise(
        "Tools run, and agents run as tasks.", "protocol.md, tool_exec/v1, orchestrator/v1"
    ),
    "GRPC-05": Promise(
        "An error has its canonical code and an ErrorInfo with a stable reason.",
        "protocol.md, Errors",
    ),
    "GRPC-06": Promise(
        "Nobody calls without a token, and nobody beyond the permissions of its key.",
        "reliability.md R-22",
    ),
    "GRPC-07": Promise(
        "Health and reflection answer at every address of endpoint.json.", "protocol.md"
    ),
    "GRPC-08": Promise(
        "The stubs wheel alone is enough to ask a question.", "issue 2, Must show; build 4"
    ),
}

INPUT: dict[str, Promise] = {
    "BAD-01": Promise(
        "A wrong body is refused with the field or the limit named, and nothing is half-done.",
        "issue 2, Must show",
    ),
    "BAD-02": Promise("Without a good key nothing answers.", "issue 2, Must show"),
    "BAD-03": Promise("Ids of another tenant answer exactly as absent ids.", "reliability.md R-21"),
    "BAD-04": Promise(
        "Unknown sessions, agents, paths and methods are told apart.", "issue 2, Must show"
    ),
    "BAD-05": Promise(
        "Broken, encrypted, empty and unknown files are refused or failed with their reason.",
        "issue 2, Must show",
    ),
    "BAD-06": Promise(
        "A file beyond 50 MiB leaves nothing; the same file twice is one document.",
        "issue 2, Must show; protos, UploadDocument",
    ),
}

COMMAND_LINE: dict[str, Promise] = {
    "CLI-01": Promise(
        "A port in use, a folder that cannot be written and wrong settings are named in one line, "
        "and nothing is started.",
        "issue 2, Must show",
    ),
    "CLI-02": Promise(
        "A second up on the same data says so and exits with 2; down ends the first.",
        "issue 2, build 6 and 9",
    ),
    "CLI-03": Promise(
        "The last line of up and endpoint.json, private, say the same; the key stays.",
        "issue 2, build 9",
    ),
    "CLI-04": Promise(
        "up --detach returns when the platform is ready, which runs on.", "issue 2, build 9"
    ),
    "CLI-05": Promise(
        "Commands tell nothing running, a wrong address and a wrong key apart.", "issue 2, build 9"
    ),
    "CLI-06": Promise("config show shows no secret.", "features.md P6"),
    "CLI-07": Promise("The doctor names what is wrong and what to do.", "issue 2, build 9"),
    "CLI-09": Promise(
        "up uses a database of the operator's, which migrate makes, and starts none itself.",
        "architecture.md, principle 3",
    ),
    "CLI-10": Promise(
        "Services served together in one process join those of other processes.",
        "architecture.md, principle 1",
    ),
    "CLI-11": Promise(
        "Tasks are submitted, followed, listed and cancelled from the terminal.",
        "features.md O4; issue 3, Build 2",
    ),
    "CLI-08": Promise("The help lists the commands and the exit codes.", "issue 2, build 9"),
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
        "A service that dies is started again; the stream of a running turn goes on to its end.",
        "features.md C2, G4; reliability.md R-01",
    ),
    "CRASH-05": Promise(
        "SIGTERM lets running turns finish; a second one ends the platform at once.",
        "house.md 3.6; issue 2, build 5",
    ),
    "CRASH-04": Promise(
        "After kill -9 while a document is indexed it becomes ready, once.", "features.md R2"
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
        "An instance whose calls keep failing is left out, ever longer, never more than half.",
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
        "A call waits for an instance that is being connected, and fails at once when none can be "
        "reached.",
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


AREAS: dict[str, dict[str, Promise]] = {
    "channel": CHANNEL,
    "policy": POLICY,
    "identity": IDENTITY,
    "errors": ERRORS,
    "events": EVENTS,
    "events on Kafka": EVENTS_ON_KAFKA,
    "dispatch": DISPATCH,
    "event schemas": EVENT_SCHEMAS,
    "event operations": EVENT_OPERATIONS,
    "sample consumers": SAMPLE_CONSUMERS,
    "public": PUBLIC,
    "notifications": NOTIFICATIONS,
    "openai": OPENAI,
    "grpc": GRPC,
    "input": INPUT,
    "command line": COMMAND_LINE,
    "crashes": CRASHES,
    "storm": STORM,
    "mesh": MESH,
    "registry": REGISTRY,
    "balancing": BALANCING,
    "tls": TLS,
    "security": SECURITY,
    "stores": STORES,
}
