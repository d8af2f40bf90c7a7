"""The files of docs/events that are made here, and the baseline that they are compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from meshwright_common.events.topics import (
    DEAD_LETTER_RETENTION,
    DEAD_LETTER_SUFFIX,
    TOPICS,
)
from meshwright_common.settings import EventSettings
from protos.event_documents.asyncapi import asyncapi
from protos.event_documents.compatibility import Snapshot, TopicPromise
from protos.event_documents.messages import PROTOS, ProtoError, Protos
from protos.event_documents.schemas import body_schema

FOLDER: Final = PROTOS.parent / "docs" / "events"
BASELINE: Final = FOLDER / "baseline.json"
README: Final = "README.md"
BEGIN: Final = "<!-- made by `make protos` from the protos and topics.py: begin -->"
END: Final = "<!-- made by `make protos`: end -->"

_HEAD: Final = "# Made by `make protos` from protos/meshwright/events: do not edit.\n"


def documents(protos: Protos) -> dict[str, str]:
    """Return the text of each file by its path below docs/events.

    Raises: ProtoError when the README has lost the marks of the tables.
    """
    texts = {
        f"schemas/{kind.event_type}.schema.json": _json(body_schema(protos, kind))
        for kind in protos.kinds()
    }
    texts["asyncapi.yaml"] = _HEAD + yaml.safe_dump(
        asyncapi(protos), sort_keys=False, allow_unicode=True, width=100
    )
    texts[README] = _with_tables((FOLDER / README).read_text("utf-8"), tables(protos))
    return texts


def write(texts: Mapping[str, str], folder: Path) -> None:
    """Write the files, and remove the schemas of event types that are no more."""
    for path in (folder / "schemas").glob("*.schema.json"):
        if str(path.relative_to(folder)) not in texts:
            path.unlink()
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def snapshot(protos: Protos) -> Snapshot:
    """Return what readers may rely on now."""
    return Snapshot(
        topics={
            topic.value: TopicPromise(
                key=facts.key,
                retention_days=facts.retention.days,
                event_types=tuple(
                    kind.event_type for kind in protos.kinds() if kind.channel == topic.value
                ),
            )
            for topic, facts in TOPICS.items()
        },
        schemas={kind.event_type: body_schema(protos, kind) for kind in protos.kinds()},
    )


def snapshot_text(protos: Protos) -> str:
    """Return the baseline's file for the protos as they are."""
    return _json(snapshot(protos).as_json())


def tables(protos: Protos) -> str:
    """Return the README's tables of topics and event types."""
    partitions = EventSettings().partitions
    lines = [
        "| topic | key | kept | partitions | event types |",
        "|---|---|---|---|---|",
    ]
    for topic, facts in TOPICS.items():
        members = [kind.event_type for kind in protos.kinds() if kind.channel == topic.value]
        cells = (
            *(f"`{topic.value}`", f"`{facts.key}`", f"{facts.retention.days} d", str(partitions)),
            ", ".join(_link(event_type) for event_type in members),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(
        f"| each topic with `{DEAD_LETTER_SUFFIX}` | the same | {DEAD_LETTER_RETENTION.days} d"
        f" | {partitions} | what one of the platform's own consumers gave up |"
    )
    return "\n".join(lines)


def _link(event_type: str) -> str:
    return f"[{event_type}](schemas/{event_type}.schema.json)"


def _with_tables(readme: str, made: str) -> str:
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ProtoError(f"docs/events/{README} has lost its marks:\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
