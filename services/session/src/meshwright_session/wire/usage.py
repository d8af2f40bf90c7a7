"""The usage ledger: questions, answers, and the event it is fed by."""

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf import json_format

from meshwright.events.v1 import usage_pb2 as usage_event_pb2
from meshwright.session.v1 import usage_service_pb2
from meshwright.types.v1 import usage_pb2
from meshwright_common.errors import invalid
from meshwright_common.events.envelope import Event
from meshwright_session.domain.usage_models import Tokens, UsageDimension, UsageRow, UsageSum
from meshwright_session.domain.usage_reports import UsageQuestion
from meshwright_session.wire import values

MAX_NAME_CHARACTERS: Final = 200
_COUNTS: Final = (
    "step",
    "attempt",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_micro_usd",
    "first_token_milliseconds",
    "duration_milliseconds",
    "number",
    "counted_tokens",
    "counted_micro_usd",
)
_NAMES: Final = (
    "task_id",
    "user_id",
    "session_id",
    "feature",
    "operation",
    "model",
    "deployment",
    "provider",
    "outcome",
    "reason",
)

_DIMENSIONS: Final[dict[int, UsageDimension]] = {
    usage_service_pb2.USAGE_DIMENSION_DAY: "day",
    usage_service_pb2.USAGE_DIMENSION_USER: "user",
    usage_service_pb2.USAGE_DIMENSION_MODEL: "model",
    usage_service_pb2.USAGE_DIMENSION_FEATURE: "feature",
}


def question(request: usage_service_pb2.QueryUsageRequest) -> UsageQuestion:
    """Return what is asked. Raises: InvalidArgument naming the field."""
    for index, dimension in enumerate(request.group_by):
        if dimension not in _DIMENSIONS:
            raise invalid(f"group_by[{index}]", "must be day, user, model or feature")
    group_by = frozenset(_DIMENSIONS[dimension] for dimension in request.group_by)
    if len(group_by) != len(request.group_by):
        raise invalid("group_by", "must not name a dimension twice")
    return UsageQuestion(
        start=values.moment(request, "start_time"),
        end=values.moment(request, "end_time"),
        group_by=group_by,
        user_id=values.text(request.user_id, "user_id", most=MAX_NAME_CHARACTERS),
    )


def sum_messages(sums: Iterable[UsageSum]) -> list[usage_service_pb2.UsageSum]:
    """Return sums as the wire shows them."""
    return [
        usage_service_pb2.UsageSum(
            day=one.day,
            user_id=one.user_id,
            model=one.model,
            feature=one.feature,
            call_count=one.call_count,
            usage=_tokens_message(one.tokens),
        )
        for one in sums
    ]


def row_message(row: UsageRow) -> usage_service_pb2.ExportRowsResponse:
    """Return a ledger row as the wire shows it."""
    return usage_service_pb2.ExportRowsResponse(
        event_id=row.event_id,
        time=values.timestamp(row.time),
        user_id=row.user_id,
        model=row.model,
        operation=row.operation,
        task_id=row.task_id,
        step=row.step,
        attempt=row.attempt,
        session_id=row.session_id,
        feature=row.feature,
        usage=_tokens_message(row.tokens),
        deployment=row.deployment,
        provider=row.provider,
        outcome=row.outcome,
        first_token_milliseconds=row.first_token_milliseconds,
        duration_milliseconds=row.duration_milliseconds,
        number=row.number,
        repeated_by_platform=row.repeated_by_platform,
        reason=row.reason,
    )


def row_of(event: Event) -> UsageRow:
    """Return the ledger row of a model.usage.recorded event.

    Fields of later versions are ignored. Raises: ValueError when the data is not of that type.
    """
    data = _usage_recorded(event.data)
    for field in _COUNTS:
        if getattr(data, field) < 0:
            raise ValueError(f"{field} is negative")
    for field in _NAMES:
        name: str = getattr(data, field)
        if len(name) > MAX_NAME_CHARACTERS or "\0" in name:
            raise ValueError(f"{field} is no name")
    if not data.task_id or not data.operation:
        raise ValueError("task_id and operation name the call: they must not be empty")
    return UsageRow(
        tenant_id=event.tenant_id,
        event_id=event.event_id,
        time=values.event_time(event),
        user_id=data.user_id,
        session_id=data.session_id,
        feature=data.feature,
        operation=data.operation,
        model=data.model,
        deployment=data.deployment,
        provider=data.provider,
        outcome=data.outcome,
        task_id=data.task_id,
        step=data.step,
        attempt=data.attempt,
        tokens=Tokens(
            prompt=data.prompt_tokens,
            completion=data.completion_tokens,
            cached=data.cached_tokens,
            reasoning=data.reasoning_tokens,
            cost_micro_usd=data.cost_micro_usd,
            estimated=data.estimated,
        ),
        first_token_milliseconds=data.first_token_milliseconds,
        duration_milliseconds=data.duration_milliseconds,
        counted_tokens=(
            data.counted_tokens
            if data.HasField("counted_tokens")
            else data.prompt_tokens + data.completion_tokens
        ),
        counted_micro_usd=(
            data.counted_micro_usd if data.HasField("counted_micro_usd") else data.cost_micro_usd
        ),
        number=data.number or 1,
        repeated_by_platform=data.repeated_by_platform,
        reason=data.reason,
    )


def _usage_recorded(data: Mapping[str, object]) -> usage_event_pb2.UsageRecorded:
    numbers = {name: _number(data[name]) for name in _COUNTS if name in data}
    try:
        # The constructor checks types and ranges as the parser does, at a tenth of its cost; data
        # in any other of the forms that the parser takes is left to it.
        return usage_event_pb2.UsageRecorded(**{**data, **numbers})  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    parsed = usage_event_pb2.UsageRecorded()
    try:
        return json_format.ParseDict(dict(data), parsed, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error


def _number(value: object) -> object:
    """Return the number of a 64-bit integer, which proto3 JSON writes as a string."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _tokens_message(tokens: Tokens) -> usage_pb2.TokenUsage:
    return usage_pb2.TokenUsage(
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        cached_tokens=tokens.cached,
        reasoning_tokens=tokens.reasoning,
        cost_micro_usd=tokens.cost_micro_usd,
        estimated=tokens.estimated,
    )
