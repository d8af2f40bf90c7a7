"""Bodies of what tasks ask people."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import (
    Identifier,
    Input,
    JsonObject,
    JsonObjectInput,
    Listing,
    Output,
)


class ToolCallToApprove(Output):
    """The exact call that is made when it is approved."""

    id: str
    name: str
    arguments_json: str


class Interrupt(Output):
    """What a task asks a person. An approval is answered by `approved` and maybe `comment`."""

    interrupt_id: str
    kind: Literal["question", "approval", "unspecified"]
    question: str
    payload: JsonObject | None = Field(description="What a graph shows; null: no graph asks.")
    answer_schema: JsonObject | None = Field(
        description="JSON Schema of the answer; null: any object."
    )
    tool_call: ToolCallToApprove | None
    create_time: datetime | None
    expire_time: datetime | None


class OpenInterrupt(Interrupt):
    """What a task asks a person, and which task."""

    task_id: str
    agent: str
    session_id: str
    created_by: str


class OpenInterruptList(Listing):
    """What waits for an answer, oldest first."""

    interrupts: list[OpenInterrupt]


class TaskAnswer(Input):
    """An answer to what a task asks."""

    interrupt_id: Identifier
    answer: JsonObjectInput = Field(
        description='As its answer_schema says; of an approval: `{"approved": true}`.'
    )
