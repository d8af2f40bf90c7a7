"""Turns over HTTP: framing, resuming, leaving."""

import pytest

from meshwright.chat.v1 import chat_service_pb2, turn_pb2
from meshwright_common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    ServiceError,
    Unavailable,
)
from meshwright_common.ids import new_id
from meshwright_gateway.wire.values import object_from
from services.gateway.tests.events import parse
from services.gateway.tests.peers import Script, numbered, turn_events
from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio


async def test_a_question_is_answered_as_a_stream_of_numbered_events(platform: Platform) -> None:
    answer = await platform.post("/api/v1/chat", {"message": "to be or not"})

    text = await answer.text()
    events = parse(text)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert text.startswith("retry: 2000\n\nid: ")
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.name for event in events] == [
        "turn.started",
        *["message.delta"] * 4,
        "citation",
        "turn.completed",
    ]
    said = "".join(event.data["text"] for event in events if event.name == "message.delta")
    assert said == "to be or not" == events[-1].data["answer"]
    turn_id = events[0].data["turn_id"]
    assert answer.headers["content-location"] == f"/api/v1/turns/{turn_id}/events"
    assert {event.id.rpartition(":")[0] for event in events} == {turn_id}


async def test_text_cannot_end_an_event_or_begin_another(platform: Platform) -> None:
    """S-66: line breaks of every kind, NUL and field names inside the text stay inside."""
    evil = 'a\n\nevent: turn.completed\ndata: {}\n\r\r\u2028\u0085"\\'
    platform.peers.chat.script = lambda turn_id, _: Script(turn_events(turn_id, evil, "\0"))

    answer = await platform.post("/api/v1/chat", {"message": "x"})

    events = parse(await answer.text())
    assert [event.data["text"] for event in events if event.name == "message.delta"] == [evil, "\0"]
    assert [event.name for event in events].count("turn.completed") == 1


async def test_any_cut_of_a_stream_is_resumed_without_gap_or_double(platform: Platform) -> None:
    """R-13: after every event, the rest is exactly what is missing."""
    first = parse(await (await platform.post("/api/v1/chat", {"message": "a b c d"})).text())
    turn_id = first[0].data["turn_id"]

    for seen in range(len(first)):
        cursor = {"last_event_id": first[seen - 1].id} if seen else {}
        rest = await platform.get(f"/api/v1/turns/{turn_id}/events", **cursor)
        assert parse(await rest.text()) == first[seen:]


async def test_cursor_may_come_in_the_query(platform: Platform) -> None:
    """EventSource polyfills and curl users cannot always set headers."""
    first = parse(await (await platform.post("/api/v1/chat", {"message": "a b"})).text())
    turn_id = first[0].data["turn_id"]

    rest = await platform.get(f"/api/v1/turns/{turn_id}/events?last_event_id={first[1].id}")

    assert parse(await rest.text()) == first[2:]


async def test_a_turn_that_was_seen_to_its_end_answers_204(platform: Platform) -> None:
    """204 tells an EventSource to stop."""
    first = parse(await (await platform.post("/api/v1/chat", {"message": "a"})).text())
    turn_id = first[0].data["turn_id"]

    rest = await platform.get(f"/api/v1/turns/{turn_id}/events", last_event_id=first[-1].id)

    assert rest.status == 204


@pytest.mark.parametrize(
    "cursor", ["{turn}:99", "{turn}:-1", "{turn}:x", "{other}:1", "nonsense", ":", "{turn}:"]
)
async def test_a_cursor_of_no_event_is_refused_with_410(platform: Platform, cursor: str) -> None:
    """Never a silent restart."""
    first = parse(await (await platform.post("/api/v1/chat", {"message": "a"})).text())
    turn_id = first[0].data["turn_id"]

    answer = await platform.get(
        f"/api/v1/turns/{turn_id}/events",
        last_event_id=cursor.format(turn=turn_id, other=new_id()),
    )

    assert answer.status == 410
    assert (await answer.json())["code"] == "CURSOR_EXPIRED"


async def test_an_unknown_turn_is_not_found(platform: Platform) -> None:
    answer = await platform.get(f"/api/v1/turns/{new_id()}/events")

    assert answer.status == 404
    assert (await answer.json())["code"] == "TURN_NOT_FOUND"


@pytest.mark.parametrize(
    "broken",
    [DeadlineExceeded("too long"), Unavailable("the process is gone"), None],
    ids=["deadline", "lost process", "silent end"],
)
async def test_a_call_that_ends_early_does_not_show_in_the_stream(
    platform: Platform, broken: ServiceError | None
) -> None:
    """The gateway follows the turn again, after the last event."""
    platform.peers.chat.script = lambda turn_id, request: Script(
        turn_events(turn_id, *request.message.split()), breaks_after={2: broken, 4: broken}
    )

    answer = await platform.post("/api/v1/chat", {"message": "a b c d"})

    events = parse(await answer.text())
    assert [event.sequence for event in events] == list(range(1, 8))
    assert events[-1].name == "turn.completed"
    assert [request.after_sequence for request in platform.peers.chat.subscriptions] == [2, 4]


async def test_an_error_within_the_stream_is_its_last_event(platform: Platform) -> None:
    """The turn did not end: the event has no id, so a client resumes after the one before."""
    platform.peers.chat.script = lambda turn_id, _: Script(
        turn_events(turn_id, "a"), breaks_after={2: Internal("defect")}
    )

    answer = await platform.post("/api/v1/chat", {"message": "a"})

    last = parse(await answer.text())[-1]
    assert (last.name, last.id) == ("error", "")
    assert last.data["code"] == "INTERNAL"
    assert last.data["request_id"] == answer.headers["x-request-id"]


async def test_an_error_before_the_stream_is_a_problem(platform: Platform) -> None:
    platform.peers.chat.error = FailedPrecondition("a turn is running", turn_id="t-1")
    platform.peers.chat.error.reason = "TURN_IN_PROGRESS"

    answer = await platform.post("/api/v1/chat", {"message": "a"})

    problem = await answer.json()
    assert answer.status == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "TURN_IN_PROGRESS"
    assert problem["metadata"] == {"turn_id": "t-1"}
    assert problem["type"] == "urn:meshwright:problem:TURN_IN_PROGRESS"
    assert problem["instance"] == "/api/v1/chat"


async def test_an_answer_in_one_piece_says_what_the_stream_would(platform: Platform) -> None:
    answer = await platform.post("/api/v1/chat", {"message": "a b", "stream": False})

    content = await answer.json()
    assert answer.status == 200
    assert content["answer"] == "a b"
    assert [citation["page"] for citation in content["citations"]] == [3]
    assert content["usage"]["prompt_tokens"] == 7
    assert content["turn_id"]
    assert content["session_id"]


async def test_a_failed_turn_in_one_piece_is_a_problem(platform: Platform) -> None:
    failed = turn_pb2.TurnFailed(reason="PROVIDER_TIMEOUT", message="no byte came", retryable=True)
    platform.peers.chat.script = lambda turn_id, _: Script(
        numbered(turn_id, [turn_pb2.TurnEvent(failed=failed)])
    )

    answer = await platform.post("/api/v1/chat", {"message": "a", "stream": False})

    problem = await answer.json()
    assert answer.status == 504
    assert (problem["code"], problem["detail"]) == ("PROVIDER_TIMEOUT", "no byte came")


async def test_accepting_events_wins_over_an_answer_in_one_piece(platform: Platform) -> None:
    answer = await platform.post(
        "/api/v1/chat", {"message": "a", "stream": False}, accept="text/event-stream"
    )

    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_the_request_reaches_the_chat_service_whole(platform: Platform) -> None:
    session_id, base_id = new_id(), new_id()

    await platform.post(
        "/api/v1/chat",
        {
            "message": "what is 六乘七?",
            "session_id": session_id,
            "agent": "tool_call",
            "model": "m",
            "knowledge_base_ids": [base_id, "default"],
            "metadata": {"tags": ["a", 1, None], "deep": {"b": 0.5}},
            "concurrency": "reject",
        },
        idempotency_key="key-1",
    )

    (request,) = platform.peers.chat.requests
    assert request.message == "what is 六乘七?"
    assert (request.session_id, request.agent, request.model) == (session_id, "tool_call", "m")
    assert list(request.knowledge_base_ids) == [base_id, "default"]
    assert request.request_id == "key-1"
    assert request.concurrency == chat_service_pb2.CONCURRENCY_POLICY_REJECT
    assert object_from(request.metadata) == {"tags": ["a", 1, None], "deep": {"b": 0.5}}
    assert platform.peers.chat.callers == [platform.caller]
