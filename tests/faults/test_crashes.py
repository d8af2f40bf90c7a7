"""Whatever is killed at whatever moment: no message is lost, nothing is stored twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from bench.process_usage import tree
from tests.asking import DOCUMENTS, ask, ended, eventually, follow, turn_id_of
from tests.platform_process import Platform, member_pid, running_platform
from tests.sse import Event, events, text_of

pytestmark = pytest.mark.timeout(170)

ENDED = {"completed", "failed"}
SLOW = "sim-n120-tps60"
"""Two seconds of text."""
STREAMING_CLIENT = """
import json, sys, urllib.request
url, key, body = sys.argv[1:]
headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
request = urllib.request.Request(f"{url}/api/v1/chat", body.encode(), headers)
with urllib.request.urlopen(request) as answer:
    while piece := answer.read1():
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()
"""


@pytest.mark.promise("CRASH-01")
def test_a_killed_client_resumes_and_the_pieces_add_up(platform: Platform, tmp_path: Path) -> None:
    body = '{"message": "Count.", "model": "%s", "agent": "chat"}' % SLOW  # noqa: UP031 - JSON
    received = tmp_path / "received"
    with received.open("wb") as file:
        client = subprocess.Popen(
            [sys.executable, "-c", STREAMING_CLIENT, platform.url, platform.api_key, body],
            stdout=file,
        )
    try:
        eventually(lambda: received.read_bytes().count(b"event: message.delta") >= 5)
    finally:
        client.kill()
        client.wait()
    seen = whole_events(received.read_bytes())
    turn_id = turn_id_of(seen)
    with platform.client() as other:
        seen += follow(other, turn_id, seen[-1].id)
        turn = other.get(f"/api/v1/turns/{turn_id}").json()
    assert seen[-1].name == "turn.completed"
    assert [event.sequence for event in seen] == [*range(1, len(seen) + 1)]
    assert text_of(seen) == turn["answer"]
    assert len(turn["answer"].split()) == 120


def whole_events(received: bytes) -> list[Event]:
    """Return the events that arrived whole."""
    whole = received[: received.rindex(b"\n\n") + 2]
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return list(events(httpx.Response(200, headers=headers, content=whole)))


@pytest.mark.promise("CRASH-02")
@pytest.mark.parametrize("split", [False, True], ids=["together", "split"])
def test_a_turn_survives_the_death_of_the_platform(
    data_folder: Path, provider_environment: dict[str, str], split: bool
) -> None:
    with (
        running_platform(data_folder, split=split, environment=provider_environment) as first,
        first.client() as client,
    ):
        before = ask(client, "Before.", model="sim-n3", agent="chat")
        session = before[0].data["session_id"]
        family = [one.pid for one in tree(first.process.pid)]
        seen = ask_and_kill(client, first, session)
    # Engines and members die with the platform, and no zombie counts as alive.
    eventually(lambda: not any(is_alive(pid) for pid in family))
    with (
        running_platform(
            data_folder, split=split, port=first.port, environment=provider_environment
        ) as second,
        second.client() as client,
    ):
        assert second.api_key == first.api_key
        turn_id = turn_id_of(seen)
        rest = follow(client, turn_id, seen[-1].id)
        turn = client.get(f"/api/v1/turns/{turn_id}").json()
        assert turn["state"] in ENDED
        if turn["state"] == "completed":
            assert turn["attempt"] == 2
            assert "turn.restarted" in [event.name for event in rest]
            assert text_of(seen + rest) == turn["answer"]
            assert len(turn["answer"].split()) == 120
        else:
            assert turn["error_reason"]
        assert [event.sequence for event in seen + rest] == [*range(1, len(seen + rest) + 1)]
        check_nothing_is_doubled(client, session, turn)
        after = ask(client, "After.", model="sim-n3", agent="chat", session_id=session)
        assert after[-1].name == "turn.completed"


def ask_and_kill(client: httpx.Client, platform: Platform, session: str) -> list[Event]:
    """Return what was seen of a turn before its platform was killed in the middle of it."""
    body = {"message": "Count.", "model": SLOW, "agent": "chat", "session_id": session}
    seen: list[Event] = []
    try:
        with client.stream("POST", "/api/v1/chat", json=body) as response:
            for event in events(response):
                seen.append(event)
                if len(seen) == 8:
                    platform.kill()
    except httpx.TransportError:
        assert len(seen) >= 8
        return seen
    raise AssertionError("the stream ended as if nothing had happened")


def check_nothing_is_doubled(
    client: httpx.Client, session: str, turn: Mapping[str, object]
) -> None:
    """Each question of the session is stored once, each answer at most once, the chain is whole."""
    messages = client.get(f"/api/v1/sessions/{session}/messages").json()["messages"]
    questions = sorted(one["text"] for one in messages if one["role"] == "user")
    answers = [one["text"] for one in messages if one["turn_id"] == turn["turn_id"]]
    assert questions == ["Before.", "Count."]
    assert len(answers) == len(set(answers)) <= 2
    turns = client.get(f"/api/v1/sessions/{session}/turns").json()["turns"]
    assert len(turns) == 2
    verdict = client.get("/api/v1/audit/verify").json()
    assert verdict["valid"] is True


@pytest.mark.promise("CRASH-05")
@pytest.mark.parametrize(
    ("signals", "split"),
    # The second signal is the same code in both.
    [(1, False), (1, True), (2, True)],
    ids=["one-together", "one-split", "two-split"],
)
def test_sigterm_lets_a_running_turn_finish_and_a_second_one_does_not_wait(
    data_folder: Path, provider_environment: dict[str, str], signals: int, split: bool
) -> None:
    with (
        running_platform(data_folder, split=split, environment=provider_environment) as running,
        running.client() as client,
    ):
        seen = ask_and_signal(client, running, signals)
        assert running.process.wait(30) == (0 if signals == 1 else 128 + signal.SIGTERM)
    assert (seen[-1].name == "turn.completed") is (signals == 1)


def ask_and_signal(client: httpx.Client, platform: Platform, count: int) -> list[Event]:
    """Return what was seen of a turn in the middle of which SIGTERM came, so many times."""
    body = {"message": "Count.", "model": SLOW, "agent": "chat"}
    seen: list[Event] = []
    try:
        with client.stream("POST", "/api/v1/chat", json=body) as response:
            for event in events(response):
                seen.append(event)
                # The second one follows with the next event: two at once would be one.
                if 8 <= len(seen) < 8 + count:
                    platform.process.send_signal(signal.SIGTERM)
    except httpx.TransportError:
        assert count == 2
    assert len(seen) >= 7 + count, seen[-1:]
    return seen


@pytest.fixture(scope="module")
def split_platform(
    tmp_path_factory: pytest.TempPathFactory, provider_environment: dict[str, str]
) -> Iterator[Platform]:
    data = tmp_path_factory.mktemp("faults") / "data"
    with running_platform(data, split=True, environment=provider_environment) as running:
        yield running


@pytest.mark.promise("CRASH-03")
@pytest.mark.parametrize("service", ["chat", "orchestrator", "model-router", "session"])
def test_a_service_that_dies_is_replaced_and_its_turn_goes_on(
    split_platform: Platform, service: str
) -> None:
    """The client's own stream lives on: the gateway follows the turn wherever it goes."""
    seen: list[Event] = []
    with split_platform.client() as client:
        body = {"message": "Count.", "model": SLOW, "agent": "chat"}
        with client.stream("POST", "/api/v1/chat", json=body) as response:
            for event in events(response):
                seen.append(event)
                if len(seen) == 8:
                    os.kill(member_pid(split_platform, service), signal.SIGKILL)
        path = f"/api/v1/turns/{turn_id_of(seen)}"
        eventually(lambda: client.get(path).status_code == 200)
        turn = client.get(path).json()
        assert seen[-1].name == "turn.completed", turn
        assert text_of(seen) == turn["answer"]
        assert len(turn["answer"].split()) == 120
        if service == "model-router":
            # What was shown of the answer was taken back; it is begun again.
            assert "turn.restarted" in [event.name for event in seen]
        eventually(lambda: is_answered(client))


@pytest.mark.promise("CRASH-03")
def test_an_answer_of_which_nothing_was_shown_is_begun_again_unseen(
    split_platform: Platform,
) -> None:
    with split_platform.client() as client:
        body = {"message": "Count.", "model": "sim-ttft1500-n9", "agent": "chat"}
        seen: list[Event] = []
        with client.stream("POST", "/api/v1/chat", json=body) as response:
            for event in events(response):
                seen.append(event)
                if len(seen) == 1:
                    os.kill(member_pid(split_platform, "model-router"), signal.SIGKILL)
    names = {event.name for event in seen}
    assert seen[-1].name == "turn.completed", seen[-1]
    assert len(text_of(seen).split()) == 9
    assert "turn.restarted" not in names


def is_answered(client: httpx.Client) -> bool:
    """Return whether a turn completes; a service that was away may have been given a pause."""
    body = {"message": "Well?", "model": "sim-n2", "agent": "chat", "stream": False}
    answer = client.post("/api/v1/chat", json=body)
    assert answer.status_code in {200, 503}, answer.text
    return answer.status_code == 200


@pytest.mark.promise("CRASH-04")
def test_indexing_survives_the_death_of_the_platform(
    data_folder: Path, provider_environment: dict[str, str]
) -> None:
    text = "\n\n".join(
        f"Paragraph {number} tells of harbour {number * 7919} and its tides. " * 12
        for number in range(400)
    ).encode()
    with running_platform(data_folder, environment=provider_environment) as first:
        with first.client() as client:
            answer = client.post(DOCUMENTS, files={"file": ("harbours.txt", text)}).json()
        first.kill()
    document_id = answer["document"]["document_id"]
    with (
        running_platform(data_folder, environment=provider_environment) as second,
        second.client() as client,
    ):
        document = ended(client, document_id)
        assert document["state"] == "ready"
        assert [one["document_id"] for one in client.get(DOCUMENTS).json()["documents"]] == [
            document_id
        ]
        query = {"query": f"harbour {123 * 7919}", "top_k": 3}
        passages = client.post("/api/v1/search", json=query).json()["passages"]
        assert f"harbour {123 * 7919}" in passages[0]["text"]
        assert len({passage["chunk_id"] for passage in passages}) == len(passages)


def is_alive(pid: int) -> bool:
    """A zombie, which nobody waits for in some containers, is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
