"""docs/events is what the protos say, is valid AsyncAPI, and breaks no reader of the release."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from meshwright_common.events.topics import TOPICS
from protos.event_documents.compatibility import ADVICE, Snapshot, breaking_changes
from protos.event_documents.documents import BASELINE, FOLDER, documents, snapshot
from protos.event_documents.messages import BUF, ENVELOPE, Protos, read_protos

EXCHANGES: Final = {"task_dispatch", "agent_status"}
ASYNCAPI_SCHEMA: Final = "@asyncapi/specs/schemas/3.0.0-without-$id.json"
pytestmark = pytest.mark.timeout(120)  # buf is installed at the first use


@pytest.fixture(scope="module")
def protos() -> Protos:
    return read_protos()


def checked_in() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text("utf-8"))
    return content


@pytest.mark.promise("ES-01")
def test_the_documents_are_what_the_protos_say(protos: Protos) -> None:
    fresh = documents(protos)
    kept = {str(path.relative_to(FOLDER)) for path in (FOLDER / "schemas").iterdir()}
    stale = [name for name, text in fresh.items() if text != _text(FOLDER / name)]
    gone = sorted(kept - fresh.keys())
    assert (stale, gone) == ([], []), "run `make protos` and commit docs/events"


@pytest.mark.promise("ES-01")
def test_each_topic_and_each_field_of_a_key_is_known_to_the_protos(protos: Protos) -> None:
    kinds = protos.kinds()
    assert {kind.channel for kind in kinds} - EXCHANGES == {topic.value for topic in TOPICS}
    for topic, facts in TOPICS.items():
        for kind in (one for one in kinds if one.channel == topic.value):
            fields = {field.name for field in protos.messages[kind.message].field}
            assert facts.key in fields | {"tenant_id"}, f"{kind.event_type} has no {facts.key}"


@pytest.mark.promise("ES-02")
def test_the_asyncapi_document_fits_the_schema_of_asyncapi_3() -> None:
    buf = subprocess.run([BUF], check=True, capture_output=True, text=True).stdout
    (modules,) = (one for one in Path(buf.strip()).parents if one.name == "node_modules")
    schema = json.loads((modules / ASYNCAPI_SCHEMA).read_text("utf-8"))
    # The one keyword of it that no other validator knows is an annotation.
    mistakes = [
        f"{'/'.join(map(str, one.absolute_path))}: {one.message[:200]}"
        for one in Draft7Validator(schema).iter_errors(checked_in())
    ]
    assert mistakes == []


@pytest.mark.promise("ES-02")
def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = checked_in()
    references = list(_references(document))
    assert len(references) > 50
    lost = [one for one in references if not _leads_somewhere(document, one)]
    assert lost == []


@pytest.mark.promise("ES-02")
def test_every_channel_has_its_dead_letters_and_the_exchanges_are_there() -> None:
    topics = {topic.value for topic in TOPICS}
    dead = {f"{topic}.dlq" for topic in topics}
    assert set(checked_in()["channels"]) == topics | dead | EXCHANGES


@pytest.mark.promise("ES-03")
def test_nothing_changed_that_breaks_a_reader_of_the_released_events(protos: Protos) -> None:
    released = Snapshot.from_json(json.loads(BASELINE.read_text("utf-8")))
    broken = breaking_changes(released, snapshot(protos))
    assert broken == [], ADVICE


@pytest.mark.promise("ES-01")
def test_the_schemas_are_schemas_and_refuse_what_is_not_such_an_event(protos: Protos) -> None:
    assert ENVELOPE in protos.messages
    for kind in protos.kinds():
        schema = schema_of(kind.event_type)
        Draft202012Validator.check_schema(schema)
        assert list(Draft202012Validator(schema).iter_errors({"event_type": kind.event_type}))


def schema_of(event_type: str) -> dict[str, Any]:
    """Return the checked-in schema of an event type."""
    path = FOLDER / "schemas" / f"{event_type}.schema.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def header_schema() -> dict[str, Any]:
    """Return the schema of the headers that each event has."""
    trait = checked_in()["components"]["messageTraits"]["cloudevent"]
    headers: dict[str, Any] = trait["headers"]
    return headers


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield str(inner)
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _leads_somewhere(document: dict[str, Any], reference: str) -> bool:
    file, _, pointer = reference.partition("#")
    if file:
        return (FOLDER / file).is_file()
    place: Any = document
    for part in re.split("/", pointer.removeprefix("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, dict) or name not in place:
            return False
        place = place[name]
    return True
