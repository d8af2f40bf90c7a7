"""A chat process that is killed while a turn takes another one's place, or waits for a person."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.asking import eventually, follow, turn_id_of
from tests.platform_process import Platform, member_pid, running_platform
from tests.sse import Event, events, text_of

pytestmark = pytest.mark.timeout(170)

SLOW: Final = "sim-n60-tps60"
"""A second of text."""
LONG: Final = "sim-n900-tps60"
"""More text than is waited for."""
QUICK_LEASES: Final = {
    "MESHWRIGHT_CHAT__TURN_LEASE_SECONDS": "3",
    "MESHWRIGHT_CHAT__LEASE_RENEW_SECONDS": "0.5",
    "MESHWRIGHT_CHAT__SWEEP_SECONDS": "0.2",
}


@pytest.fixture(scope="module")
def split_platform(
    tmp_path_factory: pytest.TempPathFactory, provider_environment: dict[str, str]
) -> Iterator[Platform]:
    data = tmp_path_factory.mktemp("concurrency") / "data"
    environment = {**provider_environment, **QUICK_LEASES}
    with running_platform(data, split=True, environment=environment) as running:
        yield running


def until(stream: Iterator[Event], name: str) -> list[Event]:
    """Return the events up to the first of this name."""
    seen: list[Event] = []
    for event in stream:
        seen.append(event)
        if event.name == name:
            return seen
    raise AssertionError(f"no {name} but {[event.name for event in seen]}")


def to_the_end(client: httpx.Client, seen: list[Event]) -> list[Event]:
    """Return the events to the turn's last: a stream that gave up meanwhile is resumed."""
    if seen[-1].name != "error":
        return seen
    turn_id = turn_id_of(seen)
    path = f"/api/v1/turns/{turn_id}"
    eventually(lambda: bool(client.get(path).json().get("end_time")), timeout_seconds=60)
    return [*seen[:-1], *follow(client, turn_id, seen[-2].id)]


def kill_chat(platform: Platform) -> None:
    os.kill(member_pid(platform, "chat"), signal.SIGKILL)


def stored(client: httpx.Client, session: str) -> list[dict[str, Any]]:
    return list(client.get(f"/api/v1/sessions/{session}/messages").json()["messages"])


@pytest.mark.promise("TURN-06")
@pytest.mark.parametrize("policy", ["queue", "interrupt", "rollback"])
def test_a_session_comes_to_the_end_that_was_asked_for(
    split_platform: Platform, policy: str
) -> None:
    """Killed when the next turn is accepted, which is amid stopping the one before."""
    with split_platform.client() as client:
        model = SLOW if policy == "queue" else LONG
        asked = {"message": "One?", "model": model, "agent": "chat"}
        with client.stream("POST", "/api/v1/chat", json=asked) as running:
            first_stream = events(running)
            first = until(first_stream, "message.delta")
            session = first[0].data["session_id"]
            body = {"message": "Two?", "model": SLOW, "agent": "chat", "session_id": session}
            body["concurrency"] = policy
            with client.stream("POST", "/api/v1/chat", json=body) as following:
                second_stream = events(following)
                second = until(second_stream, "turn.queued")
                kill_chat(split_platform)
                second += second_stream
            first += first_stream
        first, second = to_the_end(client, first), to_the_end(client, second)
        before = client.get(f"/api/v1/turns/{turn_id_of(first)}").json()
        after = client.get(f"/api/v1/turns/{turn_id_of(second)}").json()
        messages = stored(client, session)
    assert second[-1].name == "turn.completed"
    assert text_of(second) == after["answer"] == messages[-1]["text"]
    of_first = [one for one in messages if one["turn_id"] == before["turn_id"]]
    of_second = [one for one in messages if one["turn_id"] == after["turn_id"]]
    assert [one["text"] for one in of_second] == ["Two?", after["answer"]]
    assert messages == of_first + of_second
    if policy == "queue":
        assert (before["state"], len(of_first)) == ("completed", 2)
        assert before["end_time"] <= of_second[-1]["create_time"]
    else:
        assert before["state"] == first[-1].name.removeprefix("turn.") == "cancelled"
        task = f"/api/v1/tasks/{before['task_id']}"
        with split_platform.client() as client:
            assert client.get(task).json()["state"] == "cancelled"
    if policy == "interrupt":
        assert of_first[0]["text"] == "One?"
        # At most what its reader saw, and the journal has that.
        assert of_first[1]["interrupted"] is True
        assert of_first[1]["text"] == before["answer"]
        assert before["answer"].startswith(text_of(first)[:20])
    if policy == "rollback":
        assert (of_first, before["withdrawn"]) == ([], True)


@pytest.mark.promise("TURN-03")
def test_a_waiting_turn_outlives_its_process_and_goes_on_when_answered(
    split_platform: Platform,
) -> None:
    with split_platform.client() as client:
        definition = {"type": "chat", "tools": ["calculator"], "approval_tools": ["calculator"]}
        made = client.put("/api/v1/agents/clerk", json={"definition": definition})
        assert made.is_success, made.text
        body = {"message": "What is 17*23+4?", "agent": "clerk"}
        with client.stream("POST", "/api/v1/chat", json=body) as response:
            stream = events(response)
            seen = until(stream, "interrupt")
            path = f"/api/v1/turns/{turn_id_of(seen)}"
            eventually(lambda: client.get(path).json()["state"] == "waiting")
            for member in ("chat", "orchestrator"):
                os.kill(member_pid(split_platform, member), signal.SIGKILL)
            asked = seen[-1].data
            answer = {"interrupt_id": asked["interrupt_id"], "answer": {"approved": True}}
            resume = f"/api/v1/tasks/{asked['task_id']}/resume"
            eventually(lambda: client.post(resume, json=answer).is_success)
            seen += stream
        seen = to_the_end(client, seen)
        turn = client.get(path).json()
    assert seen[-1].name == "turn.completed"
    assert "395" in turn["answer"]
    assert text_of(seen) == turn["answer"]
    assert turn["attempt"] == 1
