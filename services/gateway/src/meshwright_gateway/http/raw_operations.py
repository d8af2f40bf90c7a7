"""OpenAPI operations of the routes that are served without a framework."""

from typing import Any, Final

Operation = dict[str, Any]

STREAM_VOCABULARY: Final = """\
Questions and their answers.

A turn's stream is server-sent events: `id: <turn_id>:<sequence>`, `event: <name>`, `data: <JSON>`.
Sequences are 1, 2, 3 … without gaps. A stream that breaks is resumed at
`/api/v1/turns/{turn_id}/events` with `Last-Event-ID`; the turn itself goes on meanwhile. Comments
(lines that begin with a colon) keep the connection alive, also while a turn is queued or waits for
a person. A turn that waits goes on in the same stream when `POST /api/v1/tasks/{task_id}/resume`
brought the answer, however long that took, and in every stream that was resumed meanwhile.

| event | data |
|---|---|
| `turn.queued` | others of its session come first: `position`, `running_turn_id`, `expire_time` … |
| `turn.started` | `turn_id`, `session_id`, `agent`, `attempt`, `time` |
| `recall` | `passages` (citations), `degraded` |
| `message.delta` | `text` to append to the answer |
| `reasoning.delta` | `text` to append to the model's reasoning |
| `tool.call` | `id`, `name`, `arguments_json` |
| `tool.result` | `tool_call_id`, `name`, `result_json`, `is_error`, `truncated` |
| `citation` | a source of the answer |
| `interrupt` | a person is asked: `interrupt_id`, `task_id`, `kind`, `question`, `tool_call` … |
| `plan` | the plan as it stands: `steps` (`text`, `state`), `revision`, `note` |
| `task.child` | another agent got work or ended: `task_id`, `agent`, `state` |
| `usage` | consumption so far |
| `turn.restarted` | `attempt`, `keep_characters`: so much of the answer stays, the reasoning goes |
| `turn.completed` | the end: `answer`, `message_id`, `context_version`, `usage`, `time` |
| `turn.failed` | the end: `reason`, `message`, `retryable`, `time` |
| `turn.cancelled` | the end: `cancelled_by`, `time` |
| `error` | a problem: this connection ends, the turn does not. Resume it. |

A task's stream (`/api/v1/agents/execute`, `/api/v1/tasks/{task_id}/events`) has `task.started`,
`task.checkpoint`, `task.completed` and `task.failed` in place of the turn's own events, and ids of
the form `<task_id>:<attempt>:<sequence>`, which rise and have gaps. It is resumed from the last
`task.checkpoint`: forget what came after it at every `task.started`.

The same events come over the WebSocket `/api/v1/ws`, many conversations over one connection; this
format cannot describe it, `docs/websocket.md` does.
"""


def _json(model: str) -> Operation:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}


def _body(model: str) -> Operation:
    return {"required": True, "content": _json(model)}


def _answer(description: str, content: Operation) -> Operation:
    return {"description": description, "content": content}


_STREAM: Final[Operation] = {"text/event-stream": {"schema": {"type": "string"}}}
_TEXT: Final[Operation] = {"text/plain": {"schema": {"type": "string"}}}
_OBJECT: Final[Operation] = {"application/json": {"schema": {"type": "object"}}}
_PROBLEM: Final[Operation] = {
    "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemView"}}
}
_KEY: Final[Operation] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and body again mean the same work, for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
_CURSOR_HEADER: Final[Operation] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Id of the last event that was seen. Absent: from the beginning.",
    "schema": {"type": "string"},
}
_CURSOR_QUERY: Final[Operation] = {
    "name": "last_event_id",
    "in": "query",
    "description": "The same for clients that cannot set headers.",
    "schema": {"type": "string"},
}

_CACHE: Final[Operation] = {
    "name": "x-meshwright-cache",
    "in": "header",
    "description": "Accept stored answers: `exact`, or `semantic; min-similarity=0.95`, then any "
    "of `ttl=600` (seconds), `refresh`, `no-store`, `private`. `x-cache` tells what it was: `HIT`, "
    "`SEMANTIC_HIT`, `MISS` or `BYPASS`. Absent: no stored answers.",
    "schema": {"type": "string", "maxLength": 200},
}


def _path(name: str, description: str) -> Operation:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }


def _query(name: str, schema: Operation, description: str) -> Operation:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _open(summary: str, responses: Operation) -> Operation:
    return {"tags": ["operations"], "summary": summary, "security": [], "responses": responses}


_FORM: Final[Operation] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "description": "Display name. Absent: the file's name."},
        "media_type": {"type": "string", "description": "Absent: recognised."},
        "metadata": {"type": "string", "description": "A JSON object, for filters."},
        "file": {
            "type": "string",
            "format": "binary",
            "description": "The document, at most 50 MiB. The last part of the form.",
        },
    },
}
_MOMENT: Final[Operation] = {"type": "string", "format": "date-time"}

_WAITS: Final[Operation] = _answer(
    "`stream` was false, and the turn waits for a person: answer it, then follow the turn.",
    _json("ChatWaiting"),
)

RAW_OPERATIONS: Final[dict[str, dict[str, Operation]]] = {
    "/api/v1/chat": {
        "post": {
            "tags": ["chat"],
            "summary": "Ask a question",
            "description": (
                "Starts a turn. Answered as a stream of events, or in one piece when `stream` is "
                "false. The turn is stored before its first event, and goes on when this "
                "connection breaks, unless `on_disconnect` is `cancel`."
            ),
            "operationId": "chat",
            "parameters": [_KEY],
            "requestBody": _body("ChatRequest"),
            "responses": {
                "200": _answer(
                    "The turn. `Content-Location` is where its stream can be resumed.",
                    {**_STREAM, **_json("ChatAnswer")},
                ),
                "202": _WAITS,
            },
        }
    },
    "/api/v1/turns/{turn_id}/regenerate": {
        "post": {
            "tags": ["chat"],
            "summary": "Answer a question again",
            "description": (
                "Starts a turn that answers the question of the last turn of a session again, in "
                "its place: what that one said leaves the session. Answered as a question is."
            ),
            "operationId": "regenerate_turn",
            "parameters": [_path("turn_id", "The finished turn."), _KEY],
            "requestBody": _body("RegenerateRequest"),
            "responses": {
                "200": _answer(
                    "The new turn. `Content-Location` is where its stream can be resumed.",
                    {**_STREAM, **_json("ChatAnswer")},
                ),
                "202": _WAITS,
            },
        }
    },
    "/api/v1/turns/{turn_id}/events": {
        "get": {
            "tags": ["chat"],
            "summary": "Follow a turn",
            "description": "Events after the given one, to the last. As often as wanted.",
            "operationId": "turn_events",
            "parameters": [_path("turn_id", "The turn."), _CURSOR_HEADER, _CURSOR_QUERY],
            "responses": {
                "200": _answer("Events of the turn.", _STREAM),
                "204": {"description": "The turn has ended and the client has seen its end."},
                "410": _answer(
                    "The event id is no position of this turn (`CURSOR_EXPIRED`).",
                    _PROBLEM,
                ),
            },
        }
    },
    "/api/v1/agents/execute": {
        "post": {
            "tags": ["agents"],
            "summary": "Run an agent",
            "description": "Runs a task and streams its events to the end.",
            "operationId": "execute_agent",
            "parameters": [_KEY],
            "requestBody": _body("ExecuteRequest"),
            "responses": {"200": _answer("Events of the task.", _STREAM)},
        }
    },
    "/api/v1/tasks/{task_id}/events": {
        "get": {
            "tags": ["tasks"],
            "summary": "Follow a task",
            "description": (
                "Events after the last checkpoint that the client saw, to the last one; none when "
                "it saw that."
            ),
            "operationId": "task_events",
            "parameters": [_path("task_id", "The task."), _CURSOR_HEADER, _CURSOR_QUERY],
            "responses": {
                "200": _answer("Events of the task.", _STREAM),
                "204": {"description": "The task has ended and the client has seen its end."},
                "410": _answer(
                    "The event id is no position of this task (`CURSOR_EXPIRED`).",
                    {
                        "application/problem+json": {
                            "schema": {"$ref": "#/components/schemas/ProblemView"}
                        }
                    },
                ),
            },
        }
    },
    "/api/v1/knowledge-bases/{knowledge_base_id}/documents": {
        "post": {
            "tags": ["knowledge"],
            "summary": "Upload a document",
            "description": "Stores the document and queues its indexing.",
            "operationId": "upload_document",
            "parameters": [_path("knowledge_base_id", 'Id, or "default".'), _KEY],
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": _FORM}},
            },
            "responses": {"202": _answer("The stored document.", _json("UploadedDocument"))},
        }
    },
    "/api/v1/documents/{document_id}/events": {
        "get": {
            "tags": ["knowledge"],
            "summary": "Follow the indexing of a document",
            "description": (
                "`document.progress`, then `document.ready`, `document.failed` or "
                "`document.deleted`; data is an `IndexingProgress`."
            ),
            "operationId": "document_events",
            "parameters": [_path("document_id", "The document.")],
            "responses": {"200": _answer("Progress.", _STREAM)},
        }
    },
    "/api/v1/usage/export": {
        "get": {
            "tags": ["records"],
            "summary": "Export the usage ledger",
            "description": (
                "Rows in time order; columns as `UsageRow` has them, their descriptions in the "
                "schema of a Parquet file too. Money is whole millionths of a US dollar. In CSV a "
                "text that a spreadsheet would calculate begins with an apostrophe. Without "
                "`format` the header Accept chooses."
            ),
            "operationId": "export_usage",
            "parameters": [
                _query(
                    "format",
                    {"enum": ["csv", "jsonl", "ndjson", "parquet"], "default": "csv"},
                    "Form of the file.",
                ),
                _query("start_time", _MOMENT, "From this moment on."),
                _query("end_time", _MOMENT, "Before this moment."),
            ],
            "responses": {
                "200": _answer(
                    "The rows.",
                    {
                        "text/csv": {"schema": {"type": "string"}},
                        "application/jsonl": {"schema": {"type": "string"}},
                        "application/x-ndjson": {"schema": {"type": "string"}},
                        "application/vnd.apache.parquet": {
                            "schema": {"type": "string", "format": "binary"}
                        },
                    },
                )
            },
        }
    },
    "/api/v1/notifications/stream": {
        "get": {
            "tags": ["notifications"],
            "summary": "Follow notifications",
            "description": (
                "`event: notification`; the id is the notification's, data a `Notification`. "
                "Without an event id first all unread ones, oldest first; then new ones as they "
                "come. Reading the stream does not mark them as read. It goes on until the client "
                "leaves, and is resumed with `Last-Event-ID`."
            ),
            "operationId": "follow_notifications",
            "parameters": [_CURSOR_HEADER, _CURSOR_QUERY],
            "responses": {
                "200": _answer("Notifications.", _STREAM),
                "410": _answer(
                    "The caller has no such notification any more (`CURSOR_EXPIRED`): list them, "
                    "then follow after the newest one.",
                    _PROBLEM,
                ),
            },
        }
    },
    "/api/v1/mcp/stream": {
        "get": {
            "tags": ["mcp"],
            "summary": "Follow MCP servers",
            "description": (
                "`event: mcp_server`; data an `McpServerWithTools`. First each server as it is, "
                "then each change of state, tools or approval; a removed one comes once more, as "
                "`removed`. It goes on until the client leaves; a new stream begins anew."
            ),
            "operationId": "follow_mcp_servers",
            "responses": {"200": _answer("MCP servers.", _STREAM)},
        }
    },
    "/v1/chat/completions": {
        "post": {
            "tags": ["openai"],
            "summary": "Create a chat completion",
            "description": "As OpenAI's, straight to a model: no session, no agent.",
            "operationId": "chat_completions",
            "parameters": [_CACHE],
            "requestBody": _body("ChatCompletionRequest"),
            "responses": {"200": _answer("A completion, or its chunks.", {**_OBJECT, **_STREAM})},
        }
    },
    "/health/live": {"get": _open("Does the process run", {"200": _answer("It does.", _OBJECT)})},
    "/health/ready": {
        "get": _open(
            "Should requests come here",
            {"200": _answer("Yes.", _OBJECT), "503": _answer("No: it is stopping.", _OBJECT)},
        )
    },
    "/metrics": {
        "get": {
            "tags": ["operations"],
            "summary": "Metrics in the format of Prometheus",
            "description": "Without a key from the same machine, else with `tenant:admin`.",
            "responses": {"200": _answer("The metrics.", _TEXT)},
        }
    },
    "/openapi.json": {"get": _open("This document", {"200": _answer("OpenAPI 3.1.", _OBJECT)})},
}
