"""Turns beside each other, turns that wait and answers given again, through the public API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest

from tests.asking import ask, eventually, follow, turn_id_of
from tests.contract.test_public_people import AGENT, QUESTION, client, tenant
from tests.sse import Event, events, text_of

__all__ = ["client", "tenant"]

SLOW: Final = "sim-n400-tps40"
"""Ten seconds of text: nobody waits for its end."""
QUICK: Final = "sim-n3"
Json = dict[str, Any]


@contextmanager
def held(client: httpx.Client, message: str, **more: object) -> Iterator[list[Event]]:
    """A turn that goes on while the block runs: what was seen of it, and its stream left open."""
    body = {"message": message, "model": SLOW, "agent": "chat", **more}
    with client.stream("POST", "/api/v1/chat", json=body) as response:
        seen: list[Event] = []
        stream = events(response)
        for event in stream:
            seen.append(event)
            if event.name == "message.delta":
                break
        yield seen
        seen.extend(stream)


def messages(client: httpx.Client, session: str) -> list[Json]:
    path = f"/api/v1/sessions/{session}/messages"
    return list(client.get(path).json()["messages"])


def turn(client: httpx.Client, turn_id: str) -> Json:
    found: Json = client.get(f"/api/v1/turns/{turn_id}").json()
    return found


@pytest.mark.promise("TURN-01")
def test_a_second_question_is_refused_or_waits_its_turn(client: httpx.Client) -> None:
    with held(client, "One?") as first:
        session = first[0].data["session_id"]
        body = {"message": "Two?", "session_id": session, "model": QUICK, "agent": "chat"}
        refused = client.post("/api/v1/chat", json=body)
        queued = {**body, "concurrency": "queue"}
        with client.stream("POST", "/api/v1/chat", json=queued) as response:
            stream = events(response)
            waiting = next(stream)
            turn_id = str(waiting.data["turn_id"])
            assert turn(client, turn_id)["state"] == "queued"
            client.post(f"/api/v1/turns/{turn_id_of(first)}/cancel")
            rest = list(stream)
    assert (refused.status_code, refused.json()["code"]) == (409, "TURN_IN_PROGRESS")
    assert (waiting.name, waiting.data["position"]) == ("turn.queued", 1)
    assert waiting.data["running_turn_id"] == turn_id_of(first)
    assert [rest[0].name, rest[-1].name] == ["turn.started", "turn.completed"]
    assert first[-1].name == "turn.cancelled"


@pytest.mark.promise("TURN-01")
@pytest.mark.promise("TURN-02")
def test_an_interrupted_answer_is_kept_and_says_so(client: httpx.Client) -> None:
    with held(client, "One?") as first:
        session = first[0].data["session_id"]
        second = ask(
            client,
            *("Two?",),
            session_id=session,
            model=QUICK,
            agent="chat",
            concurrency="interrupt",
        )
    stored = messages(client, session)
    assert second[-1].name == "turn.completed"
    assert first[-1].name == "turn.cancelled"
    assert [one["text"] for one in stored if one["role"] == "user"] == ["One?", "Two?"]
    assert stored[1]["interrupted"] is True
    assert stored[1]["text"] == text_of(first) == turn(client, turn_id_of(first))["answer"]
    # Its task was fenced: the model is asked no more, and the task has ended.
    task = client.get(f"/api/v1/tasks/{turn(client, turn_id_of(first))['task_id']}").json()
    assert task["state"] == "cancelled"


@pytest.mark.promise("TURN-02")
def test_a_turn_that_was_rolled_back_is_gone_for_every_reader(client: httpx.Client) -> None:
    word = "xylophonist"
    with held(client, f"One {word}?") as first:
        session = first[0].data["session_id"]
        second = ask(
            client,
            *("Two?",),
            session_id=session,
            model=QUICK,
            agent="chat",
            concurrency="rollback",
        )
    gone = turn_id_of(first)
    stored = messages(client, session)
    assert second[-1].name == "turn.completed"
    assert [one["turn_id"] for one in stored] == [turn_id_of(second)] * 2
    assert [one["sequence"] for one in stored] == [1, 2]
    assert client.get(f"/api/v1/messages/search?q={word}").json()["messages"] == []
    rolled_back = turn(client, gone)
    assert (rolled_back["state"], rolled_back["withdrawn"]) == ("cancelled", True)
    assert (rolled_back["question"], rolled_back["answer"]) == ("", "")

    def is_in_the_log() -> bool:
        records = client.get("/api/v1/audit?action_prefix=turn.withdrawn").json()["records"]
        return [one["resource"] for one in records] == [f"turn/{gone}"]

    eventually(is_in_the_log)


@pytest.mark.promise("TURN-03")
def test_a_turn_goes_on_in_its_stream_when_a_person_has_answered(client: httpx.Client) -> None:
    body = {"message": QUESTION, "agent": AGENT}
    with client.stream("POST", "/api/v1/chat", json=body) as response:
        stream = events(response)
        seen: list[Event] = []
        for event in stream:
            seen.append(event)
            if event.name == "interrupt":
                break
        turn_id, asked = turn_id_of(seen), seen[-1].data
        eventually(lambda: turn(client, turn_id)["state"] == "waiting")
        waiting = turn(client, turn_id)
        running = client.get("/api/v1/quota").json()
        session = waiting["session_id"]
        beside = client.post(
            "/api/v1/chat", json={"message": "And?", "session_id": session, "agent": AGENT}
        ).json()
        answer = {"interrupt_id": asked["interrupt_id"], "answer": {"approved": True}}
        resumed = client.post(f"/api/v1/tasks/{asked['task_id']}/resume", json=answer)
        assert resumed.is_success, resumed.text
        seen += stream
    assert [one["interrupt_id"] for one in waiting["interrupts"]] == [asked["interrupt_id"]]
    assert asked["tool_call"]["name"] == "calculator"
    assert running["concurrent_turns"]["used"] == 0
    assert beside["code"] == "TURN_IN_PROGRESS"
    assert asked["interrupt_id"] in beside["detail"]
    assert seen[-1].name == "turn.completed"
    assert "395" in text_of(seen)
    assert [event.sequence for event in seen] == [*range(1, len(seen) + 1)]
    assert [event.name for event in seen].count("interrupt") == 1
    assert follow(client, turn_id, "") == seen


@pytest.mark.promise("TURN-03")
def test_an_answer_in_one_piece_says_that_it_waits(client: httpx.Client) -> None:
    body = {"message": QUESTION, "agent": AGENT, "stream": False}
    answer = client.post("/api/v1/chat", json=body)
    waiting = answer.json()
    assert (answer.status_code, waiting["state"]) == (202, "waiting")
    (asked,) = waiting["interrupts"]
    client.post(f"/api/v1/turns/{waiting['turn_id']}/cancel")
    task = client.get(f"/api/v1/tasks/{asked['task_id']}").json()
    assert task["state"] == "cancelled"


@pytest.mark.promise("TURN-04")
def test_the_last_question_is_answered_again_in_its_place(client: httpx.Client) -> None:
    first = ask(client, "Why?", model=QUICK, agent="chat")
    session, old = first[0].data["session_id"], turn_id_of(first)
    with client.stream("POST", f"/api/v1/turns/{old}/regenerate", json={}) as response:
        again = list(events(response))
    new = turn_id_of(again)
    stored = messages(client, session)
    refused = client.post(f"/api/v1/turns/{old}/regenerate", json={"stream": False})
    whole = client.post(f"/api/v1/turns/{new}/regenerate", json={"stream": False}).json()
    assert again[-1].name == "turn.completed"
    assert [(one["role"], one["turn_id"]) for one in stored] == [("user", new), ("assistant", new)]
    assert stored[0]["text"] == "Why?"
    assert turn(client, old)["withdrawn"] is True
    assert turn(client, old)["answer"] == text_of(first)
    assert turn(client, new)["regenerated_from"] == old
    assert (refused.status_code, refused.json()["code"]) == (400, "FAILED_PRECONDITION")
    assert turn(client, whole["turn_id"])["regenerated_from"] == new


@pytest.mark.promise("TURN-05")
def test_the_last_rating_counts(client: httpx.Client) -> None:
    rated = turn_id_of(ask(client, "Why?", model=QUICK, agent="chat"))
    path = f"/api/v1/turns/{rated}/rating"
    client.put(path, json={"rating": 1})
    client.put(path, json={"rating": -1, "comment": "the wrong page"})
    stored = turn(client, rated)
    wrong = client.put(path, json={"rating": 5})
    assert (stored["rating"], stored["rating_comment"]) == (-1, "the wrong page")
    assert wrong.status_code == 422
    assert "rating" in wrong.text
