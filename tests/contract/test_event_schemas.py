"""docs/events is what the protos say, is valid AsyncAPI, and breaks no reader of the release."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from meshwright_common.dispatch.bodies import encode
from meshwright_common.dispatch.lanes import Lane
from meshwright_common.dispatch.ports import WorkItem
from meshwright_common.dispatch.status import AgentStatus, encode_status
from meshwright_common.events import dead_letter
from meshwright_common.events.topics import TOPICS
from meshwright_common.ids import new_id
from protos.event_documents.compatibility import ADVICE, Snapshot, breaking_changes
from protos.event_documents.documents import BASELINE, FOLDER, documents, snapshot
from protos.event_documents.messages import BUF, ENVELOPE, Protos, read_protos
from tests.asking import ask, eventually, indexed
from tests.platform_process import Platform, run_command

EXCHANGES: Final = {"task_dispatch", "agent_status"}
PRODUCED: Final = {
    *("agent.task.completed", "model.usage.recorded", "audit.recorded", "notification.created"),
    *("document.index.requested", "document.index.completed", "document.index.failed"),
    *("document.deleted", "erasure.completed"),
}
ASYNCAPI_SCHEMA: Final = "@asyncapi/specs/schemas/3.0.0-without-$id.json"
pytestmark = pytest.mark.timeout(170)  # buf is installed at the first use


@pytest.fixture(scope="module")
def protos() -> Protos:
    return read_protos()


@cache
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
    wrong = [
        f"{'/'.join(map(str, one.absolute_path))}: {one.message[:200]}"
        for one in Draft7Validator(schema).iter_errors(checked_in())
    ]
    assert wrong == []


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
        assert mistakes(schema, {"event_type": kind.event_type}) or kind.channel in EXCHANGES
        assert mistakes(schema, [])


@pytest.mark.promise("ES-04")
@pytest.mark.timeout(300)
def test_every_event_that_the_services_produce_is_as_its_schema_says(platform: Platform) -> None:
    """All events of a platform that other tests have used, too, with headers and bodies."""
    with platform.client() as client:
        ask(client, "Which events does this make?")
        good = indexed(client, "events.txt", f"Facts are kept. {new_id()}".encode())
        assert indexed(client, "broken.pdf", f"%PDF-1.4 {new_id()}".encode())["state"] == "failed"
        assert client.delete(f"/api/v1/documents/{good['document_id']}").status_code < 300
    events: list[dict[str, Any]] = []

    def all_arrived() -> bool:
        events[:] = [event for topic in TOPICS for event in tail(platform, topic.value)]
        return {event["body"]["event_type"] for event in events} >= PRODUCED

    eventually(all_arrived, timeout_seconds=60)
    wrong = [
        f"{event['body']['event_type']}: {mistake}"
        for event in events
        for mistake in (
            *mistakes(header_schema(), event["headers"]),
            *mistakes(schema_of(event["body"]["event_type"]), event["body"]),
        )
    ]
    assert wrong == []
    assert all(event["headers"]["ce_id"] == event["body"]["event_id"] for event in events)


@pytest.mark.promise("ES-04")
def test_what_goes_to_the_exchanges_is_as_its_schema_says() -> None:
    status = AgentStatus(
        agent_instance_id="one",
        agent="rag",
        status="online",
        weight=70,
        cpu_free=0.5,
        memory_free=1.0,
        pending_tasks=0,
        error_rate=0.0,
    )
    sent = json.loads(encode_status(status))
    assert mistakes(schema_of("agent.status.changed"), sent) == []
    assert set(schema_of("agent.status.changed")["properties"]) == set(sent)
    work = json.loads(encode(WorkItem(new_id(), "item", "task", Lane.HIGH)))
    described = checked_in()["components"]["messages"]["work-item"]["payload"]
    assert mistakes(described, work) == []
    assert set(described["properties"]) == set(work)


@pytest.mark.promise("ES-04")
def test_a_dead_letter_has_the_headers_that_are_described() -> None:
    described = checked_in()["components"]["messages"]["dead-letter"]["headers"]
    told = Path(dead_letter.__file__).read_text("utf-8")
    assert all(f'"{name}": ' in told for name in described["required"])
    assert set(described["required"]) == set(re.findall(r'"(dlq_\w+)": ', told))


def mistakes(schema: dict[str, Any], value: object) -> list[str]:
    """Return what is wrong with a value."""
    checker = Draft202012Validator(schema, format_checker=FormatChecker(("uuid",)))
    return [
        f"{'/'.join(map(str, one.absolute_path))}: {one.message[:200]}"
        for one in checker.iter_errors(value)
    ]


def tail(platform: Platform, topic: str) -> list[dict[str, Any]]:
    """Return all events of a topic as `meshwright events tail` prints them."""
    done = run_command(
        *("events", "tail", topic, "--from", "beginning", "--no-follow", "--json"),
        *("--data", str(platform.data)),
        environment=platform.environment,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@cache
def schema_of(event_type: str) -> dict[str, Any]:
    """Return the checked-in schema of an event type."""
    path = FOLDER / "schemas" / f"{event_type}.schema.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


@cache
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
