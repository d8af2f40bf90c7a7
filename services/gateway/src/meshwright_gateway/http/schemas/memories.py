"""Bodies of memories."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import (
    Identifier,
    Input,
    JsonObject,
    JsonObjectInput,
    Listing,
    Moment,
    Output,
)

MemoryKindName = Literal["fact", "preference", "summary"]
MemoryOriginName = Literal["user", "model", "untrusted"]


class MemoryCreate(Input):
    """A memory to store."""

    kind: MemoryKindName = Field(
        description="`fact`: something that is true; `preference`: how things should be done; "
        "`summary`: what a part of a session was about."
    )
    text: str = Field(min_length=1, max_length=4000)
    origin: MemoryOriginName = Field(
        default="user",
        description="`user`: the user said it; `model`: a model concluded it from that; "
        "`untrusted`: it rests on documents or tools. Nothing replaces what comes from a better "
        "source, unless a model is very sure.",
    )
    confidence: float = Field(default=1.0, ge=0, le=1)
    topic: str = Field(
        default="",
        max_length=100,
        pattern=r"^[a-z0-9_.-]*$",
        description="Such as `user.city`: of one topic only one memory holds.",
    )
    supersedes: Annotated[
        tuple[Identifier, ...],
        Field(strict=False, max_length=20, description="Memories that it contradicts."),
    ] = ()
    metadata: JsonObjectInput | None = Field(
        default=None, description="Free data; at most 4 KiB as JSON."
    )
    expire_time: Moment | None = Field(default=None, description="Null: it is kept.")


class MemoriesCreate(Input):
    """Memories to store in one step."""

    memories: Annotated[tuple[MemoryCreate, ...], Field(strict=False, min_length=1, max_length=100)]
    session_id: Identifier | None = Field(default=None, description="Where they were learned.")
    turn_id: Identifier | None = Field(default=None, description="Where they were learned.")


class Memory(Output):
    """A memory. Its text never changes."""

    memory_id: str
    kind: str
    text: str
    origin: str
    session_id: str | None = Field(description="Where it was learned; may be gone by now.")
    turn_id: str | None
    confidence: float
    topic: str
    metadata: JsonObject
    superseded_by: str | None = Field(description="The memory that took its place.")
    create_time: datetime
    update_time: datetime = Field(description="When it was stored last.")
    expire_time: datetime | None


class MemoriesStored(Output):
    """Memories as stored, in the order of the request."""

    memories: list[Memory]


class MemoryList(Listing):
    """Memories, newest first."""

    memories: list[Memory]


class MemorySearch(Input):
    """A question to memory."""

    query: str = Field(min_length=1, max_length=4000)
    top_k: int = Field(default=5, ge=1, le=50)
    kinds: Annotated[tuple[MemoryKindName, ...], Field(strict=False, max_length=3)] = ()
    session_id: Identifier | None = Field(default=None, description="Only those learned in it.")
    min_score: float = Field(default=0.0, ge=0, le=1)


class FoundMemory(Output):
    """A memory that fits."""

    memory: Memory
    score: float = Field(description="In [0, 1]; comparable within one answer.")


class MemorySearchAnswer(Output):
    """Memories, best first."""

    memories: list[FoundMemory]
    degraded: list[str] = Field(description="Parts that were missing, such as `vector`.")


class MemoriesForgotten(Output):
    """What was forgotten."""

    forgotten_count: int = Field(description="Memories that were there and are gone now.")
