"""The wire form of an event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from google.protobuf import json_format

from meshwright.events.v1 import envelope_pb2
from meshwright_common import context
from meshwright_common.events.envelope import (
    MAX_BODY_BYTES,
    Event,
    EventInvalid,
    EventMalformed,
    EventTooLarge,
    decode,
    encode_body,
    encode_headers,
)
from meshwright_common.ids import new_id

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
TENANT = new_id()


def an_event(**data: object) -> Event:
    return Event.new(
        event_type="agent.task.completed",
        source="orchestrator",
        tenant_id=TENANT,
        partition_key="user-1",
        data=data,
    )


def test_what_was_written_is_what_is_read() -> None:
    event = an_event(text="Größe 大小 \x00", number=1.5, nested={"list": [None, True]})
    assert decode(encode_headers(event), encode_body(event)) == event


def test_the_body_is_the_json_form_of_the_proto() -> None:
    """protocol.md, Events: snake_case names, nothing beside the envelope's fields."""
    event = an_event(task_id="1")
    parsed = json_format.Parse(encode_body(event), envelope_pb2.Event())
    assert parsed.event_id == event.event_id
    assert parsed.event_type == "agent.task.completed"
    assert parsed.timestamp.ToDatetime(UTC) == event.timestamp
    assert parsed.metadata.partition_key == "user-1"
    assert parsed.data["task_id"] == "1"


def test_headers_are_those_of_cloudevents() -> None:
    event = replace(an_event(), traceparent=TRACE, tracestate="a=1")
    assert encode_headers(event) == {
        "ce_specversion": "1.0",
        "ce_id": event.event_id,
        "ce_type": "agent.task.completed",
        "ce_source": "orchestrator",
        "ce_subject": "user-1",
        "ce_time": event.timestamp.isoformat().replace("+00:00", "Z"),
        "content-type": "application/json",
        "tenant_id": TENANT,
        "traceparent": event.traceparent,
        "tracestate": "a=1",
    }


def test_an_event_joins_the_call_in_which_it_happens() -> None:
    call = context.CallContext(correlation_id="c-1", traceparent=TRACE, tracestate="a=1")
    with context.bind(call):
        event = an_event()
    assert (event.correlation_id, event.traceparent, event.tracestate) == ("c-1", TRACE, "a=1")
    assert event == decode(encode_headers(event), encode_body(event))


@pytest.mark.parametrize(
    ("traceparent", "tracestate", "taken"),
    [(TRACE, "no state", (TRACE, "")), ("no parent", "a=1", ("", "")), ("", "a=1", ("", ""))],
)
def test_what_others_wrote_as_a_trace_holds_as_far_as_it_is_one(
    traceparent: str, tracestate: str, taken: tuple[str, str]
) -> None:
    event = an_event()
    headers = {**encode_headers(event), "traceparent": traceparent, "tracestate": tracestate}
    read = decode(headers, encode_body(event))
    assert taken == (read.traceparent, read.tracestate)


def test_times_of_other_zones_are_written_in_utc() -> None:
    east = datetime(2026, 3, 1, 2, tzinfo=timezone(timedelta(hours=8)))
    body = orjson.loads(encode_body(replace(an_event(), timestamp=east)))
    assert body["timestamp"] == "2026-02-28T18:00:00.000000Z"


def test_a_large_event_is_refused_with_its_limit() -> None:
    """F-27."""
    room = MAX_BODY_BYTES - len(encode_body(an_event(text="")))
    assert len(encode_body(an_event(text="x" * room))) == MAX_BODY_BYTES
    with pytest.raises(EventTooLarge) as refused:
        encode_body(an_event(text="x" * (room + 1)))
    assert refused.value.metadata == {"limit_bytes": str(MAX_BODY_BYTES)}


@pytest.mark.parametrize("value", [object(), {1: "a"}, b"bytes", "\ud800", 2**70])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(EventInvalid):
        encode_body(an_event(value=value))


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_has_a_length(key: str) -> None:
    with pytest.raises(EventInvalid):
        encode_body(replace(an_event(), partition_key=key))


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": "1"},
        {"event_id": None},
        {"event_type": ""},
        {"timestamp": "yesterday"},
        {"timestamp": 5},
        {"data": [1]},
        {"data": None},
        {"metadata": {}},
        {"metadata": None},
        {"metadata": {"schema_version": "2.0", "partition_key": "k"}},
        {"event_id": new_id()},
    ],
)
def test_an_envelope_with_a_wrong_field_is_malformed(change: dict[str, object]) -> None:
    event = an_event()
    body = orjson.dumps(orjson.loads(encode_body(event)) | change)
    with pytest.raises(EventMalformed):
        decode(encode_headers(event), body)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"1"])
def test_what_is_not_an_envelope_is_malformed(body: bytes) -> None:
    with pytest.raises(EventMalformed):
        decode(encode_headers(an_event()), body)


def test_a_minor_version_of_the_envelope_is_read() -> None:
    event = an_event()
    envelope = orjson.loads(encode_body(event))
    envelope["metadata"] |= {"schema_version": "1.7", "later_field": 1}
    assert decode(encode_headers(event), orjson.dumps(envelope)).schema_version == "1.7"


@pytest.mark.parametrize("headers", [{}, {"tenant_id": "no"}, {"tenant_id": ""}])
def test_an_event_without_a_tenant_is_malformed(headers: dict[str, str]) -> None:
    with pytest.raises(EventMalformed):
        decode(headers, encode_body(an_event()))
