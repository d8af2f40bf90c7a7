"""Turns over REST and SSE, as every client sees them, in both arrangements."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.asking import ask, eventually, follow, indexed, turn_id_of
from tests.platform_process import Platform
from tests.sse import events, text_of
from tests.tenants import new_tenant

MANUAL = """# Pump P-17

## Cleaning

Unscrew the blue lid and rinse the filter with cold water every 40 hours.

## Storage

Store the pump dry, between 5 and 30 degrees, for two years at most.
"""


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with platform.client(new_tenant(platform).api_key) as fresh:
        yield fresh


@pytest.mark.promise("PUB-01")
def test_an_uploaded_document_is_answered_from_with_its_citation(client: httpx.Client) -> None:
    document = indexed(client, "pump.md", MANUAL.encode())
    assert document["state"] == "ready"
    seen = ask(client, "How often do I rinse the filter of the pump?")
    citations = [event.data for event in seen if event.name == "citation"]
    assert citations[0]["document_id"] == document["document_id"]
    assert "every 40 hours" in citations[0]["quote"]
    assert "40 hours" in seen[-1].data["answer"]


@pytest.mark.promise("PUB-02")
def test_the_pieces_of_a_stream_are_the_stored_answer(client: httpx.Client) -> None:
    seen = ask(client, "Count for me.", model="sim-n40", agent="chat")
    assert [event.name for event in (seen[0], seen[-1])] == ["turn.started", "turn.completed"]
    assert [event.sequence for event in seen] == [*range(1, len(seen) + 1)]
    turn = client.get(f"/api/v1/turns/{turn_id_of(seen)}").json()
    assert turn["state"] == "completed"
    assert text_of(seen) == seen[-1].data["answer"] == turn["answer"]
    assert len(turn["answer"].split()) == 40


@pytest.mark.promise("PUB-02")
def test_an_answer_that_is_not_streamed_is_the_same_turn(client: httpx.Client) -> None:
    body = {"message": "Hello", "model": "sim-n5", "agent": "chat", "stream": False}
    answer = client.post("/api/v1/chat", json=body).json()
    turn = client.get(f"/api/v1/turns/{answer['turn_id']}").json()
    assert answer["answer"] == turn["answer"]
    assert answer["usage"] == turn["usage"]
    assert turn["question"] == "Hello"


@pytest.mark.promise("PUB-03")
def test_a_question_that_needs_the_calculator_runs_it(client: httpx.Client) -> None:
    seen = ask(client, "What is 17*23+4?", agent="tool_call")
    call = next(event.data for event in seen if event.name == "tool.call")
    result = next(event.data for event in seen if event.name == "tool.result")
    assert call["name"] == result["name"] == "calculator"
    assert call["id"] == result["tool_call_id"]
    assert "395" in result["result_json"]
    assert "395" in seen[-1].data["answer"]


@pytest.mark.promise("PUB-04")
def test_a_stream_resumed_after_any_event_brings_exactly_the_rest(client: httpx.Client) -> None:
    seen = ask(client, "Count for me.", model="sim-n12", agent="chat")
    turn_id = turn_id_of(seen)
    assert follow(client, turn_id, "") == seen
    for position, event in enumerate(seen[:-1], 1):
        assert follow(client, turn_id, event.id) == seen[position:]
    ended = client.get(f"/api/v1/turns/{turn_id}/events", headers={"last-event-id": seen[-1].id})
    assert ended.status_code == 204


@pytest.mark.promise("PUB-04")
def test_a_cursor_that_is_of_no_event_is_refused(client: httpx.Client) -> None:
    turn_id = turn_id_of(ask(client, "Hello", model="sim-n2", agent="chat"))
    for cursor, status in ((f"{turn_id}:999", 410), ("other:1", 410), ("nonsense", 410)):
        answer = client.get(f"/api/v1/turns/{turn_id}/events", headers={"last-event-id": cursor})
        assert (answer.status_code, answer.json()["code"]) == (status, "CURSOR_EXPIRED"), cursor


@pytest.mark.promise("PUB-05")
def test_the_same_idempotency_key_is_the_same_turn(client: httpx.Client) -> None:
    body = {"model": "sim-n6", "agent": "chat"}
    first = ask(client, "Once.", idempotency_key="key-1", **body)
    again = ask(client, "Once.", idempotency_key="key-1", **body)
    assert again == first
    session = first[0].data["session_id"]
    turns = client.get(f"/api/v1/sessions/{session}/turns").json()["turns"]
    assert [turn["turn_id"] for turn in turns] == [turn_id_of(first)]
    reused = client.post(
        "/api/v1/chat", json={"message": "Twice.", **body}, headers={"idempotency-key": "key-1"}
    )
    assert (reused.status_code, reused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.promise("PUB-06")
def test_a_session_remembers_what_was_said(client: httpx.Client) -> None:
    first = ask(client, "My name is Ada.", model="sim-n3", agent="chat")
    session = first[0].data["session_id"]
    second = ask(client, "What is my name?", session_id=session, model="sim-n4", agent="chat")
    assert second[0].data["session_id"] == session
    messages = client.get(f"/api/v1/sessions/{session}/messages").json()["messages"]
    by_sequence = sorted(messages, key=lambda message: message["sequence"])
    assert [message["role"] for message in by_sequence] == ["user", "assistant"] * 2
    assert by_sequence[0]["text"] == "My name is Ada."
    assert by_sequence[3]["text"] == second[-1].data["answer"]
    # The model saw the whole conversation: its prompt grew.
    prompts = [run[-1].data["usage"]["prompt_tokens"] for run in (first, second)]
    assert prompts[1] > prompts[0]


@pytest.mark.promise("PUB-07")
def test_a_cancelled_turn_stops_and_says_who_did_it(client: httpx.Client) -> None:
    body = {"message": "Slowly.", "model": "sim-n2000-tps20", "agent": "chat"}
    seen = []
    with client.stream("POST", "/api/v1/chat", json=body) as response:
        for event in events(response):
            seen.append(event)
            if event.name == "message.delta" and len(seen) == 3:
                cancelled = client.post(f"/api/v1/turns/{turn_id_of(seen)}/cancel").json()
                assert cancelled["state"] == "cancelled"
    assert seen[-1].name == "turn.cancelled"
    assert seen[-1].data["cancelled_by"] == client.get("/api/v1/me").json()["subject"]
    assert client.get(f"/api/v1/turns/{turn_id_of(seen)}").json()["state"] == "cancelled"


@pytest.mark.promise("PUB-08")
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("sim-err401", "PROVIDER_CREDENTIALS"),
        ("sim-err400", "PROVIDER_REJECTED"),
        ("sim-n9-truncate4", "PROVIDER_TRUNCATED"),
        ("no-such-model", "MODEL_NOT_FOUND"),
    ],
)
def test_a_provider_that_fails_ends_the_turn_with_its_reason(
    client: httpx.Client, model: str, reason: str
) -> None:
    seen = ask(client, "Hello", model=model, agent="chat")
    assert seen[-1].name == "turn.failed"
    assert seen[-1].data["reason"] == reason
    turn = client.get(f"/api/v1/turns/{turn_id_of(seen)}").json()
    assert (turn["state"], turn["error_reason"]) == ("failed", reason)


@pytest.mark.promise("PUB-09")
def test_usage_and_audit_show_what_was_done_once_each(client: httpx.Client) -> None:
    indexed(client, "pump.md", MANUAL.encode())
    usages = [
        ask(client, "Hello", model=f"sim-n{tokens}", agent="chat")[-1].data["usage"]
        for tokens in (3, 4)
    ]

    def generated() -> list[dict[str, int]]:
        sums = client.get("/api/v1/usage", params={"group_by": "model"}).json()["sums"]
        return [
            {"calls": one["call_count"], **one["usage"]} for one in sums if "sim" in one["model"]
        ]

    eventually(lambda: sum(one["calls"] for one in generated()) == 2)
    assert sum(one["completion_tokens"] for one in generated()) == 7
    assert sum(one["prompt_tokens"] for one in generated()) == sum(
        usage["prompt_tokens"] for usage in usages
    )

    def actions() -> list[str]:
        records = client.get("/api/v1/audit", params={"page_size": 100}).json()["records"]
        return [record["action"] for record in records]

    eventually(lambda: actions().count("task.accepted") == 2)
    assert actions().count("document.uploaded") == 1
    verdict = client.get("/api/v1/audit/verify").json()
    assert verdict["valid"] is True
    assert verdict["record_count"] == len(actions())
