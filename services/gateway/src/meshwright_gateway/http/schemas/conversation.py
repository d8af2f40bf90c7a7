"""Bodies of chat, turns, sessions and messages."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import (
    Citation,
    Identifier,
    Input,
    JsonObject,
    JsonObjectInput,
    KnowledgeBaseIds,
    Listing,
    Metadata,
    Name,
    Output,
    Usage,
)
from meshwright_gateway.http.schemas.interrupts import Interrupt

Question = Annotated[str, Field(min_length=1, max_length=256 * 1024)]


class ChatRequest(Input):
    """A question. Answered as a stream of events unless `stream` is false."""

    message: Question = Field(description="The question, at most 256 KiB of UTF-8.")
    session_id: Identifier | None = Field(
        default=None, description="Session to speak in. Absent: a new one."
    )
    agent: Name | None = Field(default=None, description="Absent: the session's agent.")
    model: Name | None = Field(default=None, description="Absent: the agent's choice.")
    knowledge_base_ids: KnowledgeBaseIds = ()
    stream: bool | None = Field(
        default=None, description="False: one JSON answer at the end. Absent: true."
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue",
        description="Whether the turn goes on, to be resumed, when this connection breaks.",
    )
    concurrency: Literal["reject", "queue", "interrupt", "rollback"] | None = Field(
        default=None,
        description=(
            "What if a turn of the session has not ended: refuse this one; let it wait its turn; "
            "cancel that one and keep what it said; or cancel that one and remove it from the "
            "session. Absent: reject."
        ),
    )
    metadata: Metadata = Field(default={})


class RegenerateRequest(Input):
    """How to answer again. Answered as a stream of events unless `stream` is false."""

    stream: bool | None = Field(
        default=None, description="False: one JSON answer at the end. Absent: true."
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue",
        description="Whether the turn goes on, to be resumed, when this connection breaks.",
    )


class TurnRating(Input):
    """What the user thinks of an answer. The last one counts."""

    rating: Literal[-1, 0, 1] = Field(description="Bad, none, good.")
    comment: str = Field(default="", max_length=4096, description="Why, at most 4 KiB of UTF-8.")


class TurnInterrupt(Interrupt):
    """What a turn asks a person, and the task to give the answer to."""

    task_id: str


class ChatWaiting(Output):
    """A turn that was not streamed waits for a person. Answer it, then follow the turn."""

    turn_id: str
    session_id: str
    agent: str
    state: Literal["waiting"] = "waiting"
    interrupts: list[TurnInterrupt]


class ChatAnswer(Output):
    """The answer of a turn that was not streamed."""

    turn_id: str
    session_id: str
    message_id: str
    agent: str
    answer: str
    citations: list[Citation]
    usage: Usage
    context_version: int


class Turn(Output):
    """A question and its answer."""

    turn_id: str
    session_id: str
    agent: str
    state: Literal[
        "queued", "running", "waiting", "completed", "failed", "cancelled", "unspecified"
    ]
    attempt: int = Field(description="0 while queued, then 1, and one more after each crash.")
    task_id: str
    question: str
    answer: str
    citations: list[Citation]
    usage: Usage
    error_reason: str
    error_message: str
    rating: int
    rating_comment: str
    interrupts: list[TurnInterrupt] = Field(description="What it waits for while waiting.")
    withdrawn: bool = Field(description="Its question and answer have left the session.")
    regenerated_from: str = Field(description="Turn that it answers again; empty: none.")
    create_time: datetime
    end_time: datetime | None


class TurnList(Listing):
    """Turns, newest first."""

    turns: list[Turn]


class SessionCreate(Input):
    """A new session."""

    title: str = Field(default="", max_length=200)
    agent: str = Field(default="", max_length=200, description="Empty: rag.")
    knowledge_base_ids: KnowledgeBaseIds = ()
    metadata: Metadata = Field(default={})


class SessionUpdate(Input):
    """Changes of a session: fields that are absent stay as they are."""

    title: str | None = Field(default=None, max_length=200)
    agent: str | None = Field(default=None, max_length=200)
    knowledge_base_ids: KnowledgeBaseIds | None = None
    metadata: JsonObjectInput | None = None
    etag: str | None = Field(
        default=None, max_length=200, description="When given, it must be the current one."
    )


class SessionBranch(Input):
    """Where a branch begins."""

    sequence: int = Field(ge=0, lt=1 << 62, description="Last message that is taken over; 0: none.")
    title: str = Field(default="", max_length=200, description="Empty: that of the session.")


class Session(Output):
    """A conversation of one user."""

    session_id: str
    user_id: str
    title: str
    agent: str
    knowledge_base_ids: list[str]
    metadata: JsonObject
    message_count: int
    context_version: int
    etag: str
    archived: bool = Field(description="Its messages lie in the archive until they are used.")
    parent_session_id: str = Field(description="Session it was branched from; empty: none.")
    branch_sequence: int = Field(description="Last message of that one which both have; 0: none.")
    create_time: datetime
    update_time: datetime


class SessionList(Listing):
    """Sessions, last used first."""

    sessions: list[Session]


class ToolCallView(Output):
    """A model's wish to call a tool."""

    id: str
    name: str
    arguments_json: str = Field(description="As the model wrote it; may be invalid JSON.")


class ContentPartView(Output):
    """A piece of a message."""

    type: Literal["text", "image"]
    text: str = ""
    image_url: str = Field(default="", description="Empty for images stored as bytes.")
    media_type: str = ""


class StoredMessage(Output):
    """A message of a session."""

    message_id: str
    session_id: str
    sequence: int
    turn_id: str
    role: Literal["system", "user", "assistant", "tool", "unspecified"]
    text: str = Field(description="All text parts together.")
    parts: list[ContentPartView]
    tool_calls: list[ToolCallView]
    tool_call_id: str
    name: str
    citations: list[Citation]
    usage: Usage | None
    interrupted: bool = Field(description="The turn was stopped: it said no more.")
    create_time: datetime


class MessageList(Listing):
    """Messages in the order asked for."""

    messages: list[StoredMessage]
