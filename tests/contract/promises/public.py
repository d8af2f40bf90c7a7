"""Promises: what callers of the public surface can rely on."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

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
