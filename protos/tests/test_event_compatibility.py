"""What may be changed in events: everything that breaks a reader is found, additions are not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from protos.event_documents.compatibility import Snapshot, TopicPromise, breaking_changes

Change: TypeAlias = Callable[[dict[str, Any]], object]

TOPIC = TopicPromise(key="user_id", retention_days=7, event_types=("thing.made", "thing.gone"))
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["event_id", "data"],
    "properties": {
        "event_id": {"type": "string", "format": "uuid"},
        "data": {
            "type": "object",
            "properties": {
                "count": {"type": "integer"},
                "total": {"type": "string", "pattern": "^[0-9]+$"},
                "state": {"type": "string", "enum": ["NEW", "OLD"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "integer"}},
            },
        },
    },
}
RELEASED = Snapshot(topics={"things": TOPIC}, schemas={"thing.made": SCHEMA, "thing.gone": SCHEMA})

BREAKING: dict[str, tuple[Change, str]] = {
    "a field removed": (lambda data: data.pop("count"), "thing.made.data.count was removed"),
    "a field renamed": (
        lambda data: data.update(number=data.pop("count")),
        "thing.made.data.count was removed",
    ),
    "a type changed": (
        lambda data: data.update(count={"type": "string"}),
        "thing.made.data.count: its type was integer and is string",
    ),
    "a value of an enum removed": (
        lambda data: data["state"]["enum"].remove("OLD"),
        "thing.made.data.state: the value OLD was removed",
    ),
    "another type of items": (
        lambda data: data["tags"].update(items={"type": "integer"}),
        "thing.made.data.tags[]: its type was string and is integer",
    ),
    "another type of values": (
        lambda data: data["labels"].update(additionalProperties={"type": "string"}),
        "thing.made.data.labels[]: its type was integer and is string",
    ),
}

ADDING: dict[str, Change] = {
    "a field": lambda data: data.update(more={"type": "boolean"}),
    "a value of an enum": lambda data: data["state"]["enum"].append("NEWEST"),
    "a description": lambda data: data["count"].update(description="How many."),
}


def changed(change: Change) -> Snapshot:
    schema = copy.deepcopy(SCHEMA)
    change(schema["properties"]["data"]["properties"])
    return replace(RELEASED, schemas={"thing.made": schema, "thing.gone": SCHEMA})


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_a_reader_is_named(name: str) -> None:
    change, line = BREAKING[name]
    assert breaking_changes(RELEASED, changed(change)) == [line]


@pytest.mark.parametrize("name", ADDING)
def test_what_is_added_breaks_nobody(name: str) -> None:
    assert breaking_changes(RELEASED, changed(ADDING[name])) == []


def test_a_field_that_was_always_there_has_to_stay_so() -> None:
    schema = {**SCHEMA, "required": ["data"]}
    after = replace(RELEASED, schemas={**RELEASED.schemas, "thing.made": schema})
    (line,) = breaking_changes(RELEASED, after)
    assert line.startswith("thing.made.event_id: was in every event")


def test_an_event_type_that_is_gone_is_named_twice_as_schema_and_on_its_topic() -> None:
    after = Snapshot(
        topics={"things": replace(TOPIC, event_types=("thing.made",))},
        schemas={"thing.made": SCHEMA},
    )
    assert breaking_changes(RELEASED, after) == [
        "topic things: thing.gone is not on it any more",
        "event type thing.gone was removed",
    ]


@pytest.mark.parametrize(
    ("topics", "line"),
    [
        ({}, "topic things was removed"),
        (
            {"things": replace(TOPIC, key="task_id")},
            "topic things: its key was user_id and is task_id",
        ),
        ({"things": replace(TOPIC, retention_days=1)}, "topic things: kept 7 days, now 1"),
    ],
)
def test_topics_keep_what_they_promised(topics: dict[str, TopicPromise], line: str) -> None:
    assert breaking_changes(RELEASED, replace(RELEASED, topics=topics)) == [line]


def test_a_topic_more_an_event_type_more_and_longer_retention_break_nobody() -> None:
    longer = replace(TOPIC, retention_days=30, event_types=(*TOPIC.event_types, "thing.moved"))
    after = Snapshot(
        topics={"things": longer, "others": TOPIC},
        schemas={**RELEASED.schemas, "thing.moved": SCHEMA},
    )
    assert breaking_changes(RELEASED, after) == []


def test_a_snapshot_is_the_same_after_it_was_written_and_read() -> None:
    assert Snapshot.from_json(RELEASED.as_json()) == RELEASED
