"""An event and its wire form: UTF-8 JSON of the envelope, CloudEvents 1.0 headers beside it.

The body is the proto3 JSON form of `meshwright.events.v1.Event` with snake_case names; `data` is
the JSON form of the message that `event_type` names. Tenant and trace travel in headers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

from meshwright_common import context
from meshwright_common.errors import InvalidArgument, ResourceExhausted, ServiceError
from meshwright_common.ids import new_id, parse_id
from meshwright_common.telemetry import trace_context

SCHEMA_VERSION: Final = "1.0"
CLOUDEVENTS_VERSION: Final = "1.0"
MAX_BODY_BYTES: Final = 256 * 1024
"""Larger content is stored as an object and named by its key: every engine takes this much."""
MAX_KEY_LENGTH: Final = 200


class EventTooLarge(ResourceExhausted):
    """The event's body is over the limit; nothing was written."""

    reason = "TOO_LARGE"


class EventInvalid(InvalidArgument):
    """The event cannot be written as JSON, or has no usable key; nothing was written."""


class EventMalformed(Exception):
    """Bytes from a log are not an event of ours; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact. Two events with the same `event_id` are the same event.

    `partition_key` orders: events of one topic, tenant and key are handled in commit order.
    `retry_count` is how often this consumer failed on it before.
    """

    event_id: str
    event_type: str
    event_version: str
    timestamp: datetime
    source: str
    tenant_id: str
    correlation_id: str
    partition_key: str
    data: Mapping[str, object]
    traceparent: str = ""
    tracestate: str = ""
    schema_version: str = SCHEMA_VERSION
    retry_count: int = 0

    @classmethod
    def new(  # noqa: PLR0913 - one argument for each fact of an envelope
        cls,
        *,
        event_type: str,
        source: str,
        tenant_id: str,
        partition_key: str,
        data: Mapping[str, object],
        correlation_id: str | None = None,
        event_id: str | None = None,
        event_version: str = "1.0",
    ) -> Event:
        """Return a new event that happens now, in the trace of the current call.

        `data` holds JSON values. A caller that may repeat itself gives its own `event_id` (a UUID
        it keeps): appending the same one twice stores one event.
        """
        call = context.current()
        return cls(
            event_id=event_id or new_id(),
            event_type=event_type,
            event_version=event_version,
            # house: wall-clock: the moment of a fact, never compared for durations
            timestamp=datetime.now(UTC),
            source=source,
            tenant_id=tenant_id,
            correlation_id=call.correlation_id if correlation_id is None else correlation_id,
            partition_key=partition_key,
            data=data,
            traceparent=call.traceparent,
            tracestate=call.tracestate,
        )


def encode_body(event: Event) -> bytes:
    """Return the wire form of the body. Raises: EventTooLarge; EventInvalid."""
    if not 0 < len(event.partition_key) <= MAX_KEY_LENGTH:
        raise EventInvalid(f"partition_key must have 1 to {MAX_KEY_LENGTH} characters.")
    timestamp = event.timestamp.astimezone(UTC).isoformat(timespec="microseconds")
    envelope = {
        "event_id": event.event_id,
        "event_type": event.event_type,
        "event_version": event.event_version,
        "timestamp": timestamp.replace("+00:00", "Z"),
        "source": event.source,
        "correlation_id": event.correlation_id,
        "data": event.data,
        "metadata": {
            "schema_version": event.schema_version,
            "partition_key": event.partition_key,
            "retry_count": event.retry_count,
        },
    }
    try:
        body = orjson.dumps(envelope)
    except TypeError as error:
        raise EventInvalid(f"data of {event.event_type} is not JSON: {error}") from error
    if len(body) > MAX_BODY_BYTES:
        raise EventTooLarge(
            f"The event {event.event_type} has {len(body)} bytes, more than {MAX_BODY_BYTES}.",
            limit_bytes=str(MAX_BODY_BYTES),
        )
    return body


def encode_headers(event: Event) -> dict[str, str]:
    """Return the CloudEvents headers of the Kafka binding, the trace, and the tenant."""
    headers = {
        "ce_specversion": CLOUDEVENTS_VERSION,
        "ce_id": event.event_id,
        "ce_type": event.event_type,
        "ce_source": event.source,
        "ce_subject": event.partition_key,
        "ce_time": event.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "content-type": "application/json",
        "tenant_id": event.tenant_id,
    }
    if event.traceparent:
        headers["traceparent"] = event.traceparent
        if event.tracestate:
            headers["tracestate"] = event.tracestate
    return headers


def decode(headers: Mapping[str, str], body: bytes, *, retry_count: int = 0) -> Event:
    """Return the event of a wire form, with this consumer's own `retry_count`.

    Raises: EventMalformed when it is not an event, is of a later envelope, or names another tenant
    or id in its headers than the log or its body does.
    """
    traceparent, tracestate = trace_context.taken(
        headers.get("traceparent", ""), headers.get("tracestate", "")
    )
    try:
        envelope = orjson.loads(body)
        metadata = envelope["metadata"]
        event = Event(
            event_id=parse_id(_text(envelope, "event_id"), "event_id"),
            event_type=_text(envelope, "event_type"),
            event_version=_text(envelope, "event_version"),
            timestamp=datetime.fromisoformat(_text(envelope, "timestamp")),
            source=_text(envelope, "source"),
            tenant_id=parse_id(headers["tenant_id"], "tenant_id"),
            correlation_id=str(envelope.get("correlation_id", "")),
            partition_key=_text(metadata, "partition_key"),
            data=envelope["data"],
            traceparent=traceparent,
            tracestate=tracestate,
            schema_version=_text(metadata, "schema_version"),
            retry_count=retry_count,
        )
    except KeyError as error:
        raise EventMalformed(f"{error} is missing") from error
    except (ValueError, TypeError, AttributeError, ServiceError) as error:
        raise EventMalformed(str(error)) from error
    if not isinstance(event.data, dict):
        raise EventMalformed("data is not an object")
    if event.schema_version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise EventMalformed(f"envelope {event.schema_version} is not known here")
    if headers.get("ce_id", event.event_id) != event.event_id:
        raise EventMalformed("header and body name different events")
    return event


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is not a text")
    return value
