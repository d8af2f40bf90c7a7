"""What may change in the events without breaking their readers: anything may be added.

Nothing that a reader may use goes away or changes its meaning: topics, their keys and how long they
keep, event types, fields, types of fields, values of enums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

ADVICE: Final = (
    "Readers of the released events break. Keep the old one beside the new one (a new field, a new "
    "event type, a new topic); what has to break becomes a new event type, and the old one is sent "
    "until its readers have moved. Only a release renews the baseline: "
    "python -m protos.event_documents --release"
)

_SHAPE: Final = ("type", "format", "const", "contentEncoding")
"""Keywords whose change gives a reader something that it does not expect."""


@dataclass(frozen=True, slots=True)
class TopicPromise:
    """What readers of a topic rely on."""

    key: str
    retention_days: int
    event_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Topics by name and body schemas by event type, at one moment."""

    topics: Mapping[str, TopicPromise]
    schemas: Mapping[str, Schema]

    def as_json(self) -> dict[str, object]:
        """Return the snapshot as JSON values; `from_json` reads them."""
        topics = {name: asdict(promise) for name, promise in self.topics.items()}
        return {"topics": topics, "schemas": dict(self.schemas)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot of `as_json`."""
        topics = {
            name: TopicPromise(
                key=facts["key"],
                retention_days=facts["retention_days"],
                event_types=tuple(facts["event_types"]),
            )
            for name, facts in content["topics"].items()
        }
        return cls(topics=topics, schemas=content["schemas"])


def breaking_changes(released: Snapshot, current: Snapshot) -> list[str]:
    """Return one line for each change that breaks a reader of `released`; empty is good."""
    return [*_of_topics(released, current), *_of_schemas(released, current)]


def _of_topics(released: Snapshot, current: Snapshot) -> Iterator[str]:
    for name, before in released.topics.items():
        now = current.topics.get(name)
        if now is None:
            yield f"topic {name} was removed"
            continue
        if now.key != before.key:
            yield f"topic {name}: its key was {before.key} and is {now.key}"
        if now.retention_days < before.retention_days:
            yield f"topic {name}: kept {before.retention_days} days, now {now.retention_days}"
        for event_type in before.event_types:
            if event_type not in now.event_types:
                yield f"topic {name}: {event_type} is not on it any more"


def _of_schemas(released: Snapshot, current: Snapshot) -> Iterator[str]:
    for event_type, before in released.schemas.items():
        now = current.schemas.get(event_type)
        if now is None:
            yield f"event type {event_type} was removed"
        else:
            yield from _of_values(event_type, before, now)


def _of_values(path: str, before: Schema, now: Schema) -> Iterator[str]:
    for keyword in _SHAPE:
        if before.get(keyword) != now.get(keyword):
            was, changed = before.get(keyword, "free"), now.get(keyword, "free")
            yield f"{path}: its {keyword} was {was} and is {changed}"
    for value in before.get("enum", ()):
        if value not in now.get("enum", ()):
            yield f"{path}: the value {value} was removed"
    yield from _of_fields(path, before, now)
    for keyword in ("items", "additionalProperties"):
        if keyword in before:
            yield from _of_values(f"{path}[]", before[keyword], now.get(keyword, {}))


def _of_fields(path: str, before: Schema, now: Schema) -> Iterator[str]:
    for name in before.get("required", ()):
        if name not in now.get("required", ()):
            yield f"{path}.{name}: was in every event and may now be missing"
    for name, field in before.get("properties", {}).items():
        if name in now.get("properties", {}):
            yield from _of_values(f"{path}.{name}", field, now["properties"][name])
        else:
            yield f"{path}.{name} was removed"
