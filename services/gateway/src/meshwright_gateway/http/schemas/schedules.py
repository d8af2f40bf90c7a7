"""Bodies of schedules."""

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
from meshwright_gateway.http.schemas.work import TaskRequest

MissedRuns = Literal["latest", "skip", "all"]


class ScheduledTaskInput(TaskRequest):
    """The task that each run is."""

    priority: Literal["high", "normal", "low"] = "normal"


class ScheduledWorkflowInput(Input):
    """The workflow that each run is of: its newest version then."""

    workflow_id: Identifier
    input: JsonObjectInput | None = None


class ScheduleCreation(Input):
    """What starts when. Give one of cron, interval_seconds and once; one of task and workflow."""

    name: str = Field(min_length=1, max_length=100, description="Unique in the tenant.")
    cron: str | None = Field(
        default=None,
        max_length=200,
        description="Minute, hour, day of month, month, day of week, such as `30 7 * * MON-FRI`.",
    )
    interval_seconds: float | None = Field(
        default=None, ge=60, le=366 * 86_400, description="Counted from start_time, else from now."
    )
    once: Moment | None = None
    time_zone: str = Field(default="", max_length=100, description="IANA zone of cron. Empty: UTC.")
    task: ScheduledTaskInput | None = None
    workflow: ScheduledWorkflowInput | None = None
    missed_runs: MissedRuns = Field(
        default="latest",
        description=(
            "Of what was missed, or came while the run before was at work, do the newest late, "
            "nothing, or all (at most 100), one after the other."
        ),
    )
    start_time: Moment | None = Field(default=None, description="Not before this.")
    end_time: Moment | None = Field(default=None, description="Before this only.")
    paused: bool = False


class ScheduledMessage(Output):
    """A message of the conversation that the task gets."""

    role: Literal["system", "user", "assistant", "tool", "unspecified"]
    content: str


class ScheduledTask(Output):
    """The task that each run is."""

    agent: str
    messages: list[ScheduledMessage]
    session_id: str
    model: str
    knowledge_base_ids: list[str]
    max_steps: int
    priority: Literal["high", "normal", "low", "unspecified"]
    input: JsonObject
    metadata: JsonObject


class ScheduledWorkflow(Output):
    """The workflow that each run is of."""

    workflow_id: str
    input: JsonObject | None


class Schedule(Output):
    """Something that starts by the clock."""

    schedule_id: str
    name: str
    cron: str | None
    interval_seconds: float | None
    once: datetime | None
    time_zone: str
    task: ScheduledTask | None
    workflow: ScheduledWorkflow | None
    missed_runs: Literal["latest", "skip", "all", "unspecified"]
    start_time: datetime | None
    end_time: datetime | None
    paused: bool
    pause_reason: str = Field(description="Why the platform paused it. Empty: it did not.")
    next_run_time: Annotated[
        datetime | None, Field(description="Absent while paused, and at its end.")
    ]
    last_run_time: datetime | None
    last_run_id: str = Field(description="Task or run of the last firing.")
    created_by: str
    create_time: datetime


class ScheduleList(Listing):
    """Schedules by name."""

    schedules: list[Schedule]
