"""The WebSocket of a running platform: many conversations, people, other devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from meshwright_common.ids import new_id
from tests.platform_process import Platform
from tests.tenants import NewTenant, new_tenant

AGENT: Final = "clerk"
SUM: Final = "What is 17*23+4?"
RECEIVE_SECONDS: Final = 20
Json = dict[str, Any]


class Socket:
    """An open socket, and what has come over it by conversation."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._come: dict[str | None, list[Json]] = {}

    def send(self, **message: Any) -> None:
        """Send a message."""
        self.connection.send(json.dumps(message))

    def next_of(self, conversation_id: str | None) -> Json:
        """Return the next message of a conversation."""
        while not (come := self._come.get(conversation_id)):
            message: Json = json.loads(self.connection.recv(timeout=RECEIVE_SECONDS))
            self._come.setdefault(message.get("id"), []).append(message)
        return come.pop(0)

    def until(self, conversation_id: str, name: str) -> list[Json]:
        """Return the messages of a conversation to the first of this name or type."""
        found: list[Json] = []
        while not found or name not in {found[-1].get("event"), found[-1]["type"]}:
            found.append(self.next_of(conversation_id))
            assert found[-1]["type"] != "error" or name == "error", found[-1]
        return found


@contextmanager
def opened(platform: Platform, api_key: str, **options: Any) -> Iterator[Socket]:
    """Open a socket until the block is left."""
    options.setdefault("additional_headers", {"authorization": f"Bearer {api_key}"})
    url = platform.url.replace("http://", "ws://") + "/api/v1/ws"
    with connect(url, proxy=None, close_timeout=2, **options) as connection:
        yield Socket(connection)


@pytest.fixture
def tenant(platform: Platform) -> NewTenant:
    """A tenant of its own, with an agent whose calculations want approval."""
    made = new_tenant(platform)
    definition = {"type": "chat", "tools": ["calculator"], "approval_tools": ["calculator"]}
    with platform.client(made.api_key) as owner:
        answer = owner.put(f"/api/v1/agents/{AGENT}", json={"definition": definition})
        assert answer.is_success, answer.text
    return made


@pytest.fixture
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    """The owner's client."""
    with platform.client(tenant.api_key) as owner:
        yield owner


@pytest.fixture
def socket(platform: Platform, tenant: NewTenant) -> Iterator[Socket]:
    """The owner's socket."""
    with opened(platform, tenant.api_key) as one:
        yield one


@pytest.mark.promise("WS-01")
def test_two_conversations_are_told_at_once(socket: Socket) -> None:
    socket.send(type="chat", id="one", message="Hello there")
    socket.send(type="chat", id="two", message="Hello again", agent="chat")
    for name in ("two", "one"):
        *told, end = socket.until(name, "end")
        assert end == {"type": "end", "id": name}
        assert [one["sequence"] for one in told] == list(range(1, len(told) + 1))
        assert told[0]["event"] == "turn.started"
        assert told[-1]["event"] == "turn.completed"
        text = [one["data"]["text"] for one in told if one["event"] == "message.delta"]
        assert "".join(text) == told[-1]["data"]["answer"]


@pytest.mark.promise("WS-02")
def test_a_task_asks_and_is_answered_while_another_conversation_goes_on(socket: Socket) -> None:
    socket.send(type="task", id="task", agent=AGENT, message=SUM)
    asked = socket.until("task", "interrupt")
    question = asked[-1]["data"]
    task_id = asked[0]["data"]["task_id"]
    assert question["kind"] == "approval"
    assert "17*23+4" in question["tool_call"]["arguments_json"]

    socket.send(type="chat", id="chat", message="Hello there")
    socket.until("chat", "end")

    answer = {"task_id": task_id, "interrupt_id": question["interrupt_id"]}
    socket.send(type="answer", id="wrong", answer={"approved": "yes"}, **answer)
    wrong = socket.until("wrong", "error")[-1]["problem"]
    assert wrong["errors"][0]["field"] == "answer.approved"
    socket.send(type="answer", id="right", answer={"approved": True}, **answer)
    (accepted,) = socket.until("right", "end")
    assert accepted["data"]["task_id"] == task_id
    *_, completed, _ = socket.until("task", "end")
    assert completed["event"] == "task.completed"
    assert "395" in completed["data"]["answer"]


@pytest.mark.promise("WS-03")
def test_another_device_goes_on_where_a_broken_socket_ended(
    platform: Platform, tenant: NewTenant
) -> None:
    with opened(platform, tenant.api_key) as first:
        first.send(type="chat", id="here", message=SUM, agent=AGENT)
        seen = first.until("here", "interrupt")
        # As a lost network: no closing handshake.
        first.connection.socket.close()
    started, question = seen[0]["data"], seen[-1]

    with opened(platform, tenant.api_key) as second, opened(platform, tenant.api_key) as third:
        second.send(
            type="resume", id="there", turn_id=started["turn_id"], after=question["sequence"]
        )
        third.send(type="resume", id="whole", turn_id=started["turn_id"])
        third.send(
            type="answer",
            id="answer",
            task_id=question["data"]["task_id"],
            interrupt_id=question["data"]["interrupt_id"],
            answer={"approved": True},
        )
        *rest, _ = second.until("there", "end")
        *whole, _ = third.until("whole", "end")

    assert rest[-1]["event"] == "turn.completed"
    assert "395" in rest[-1]["data"]["answer"]
    sequences = [one["sequence"] for one in [*seen, *rest]]
    assert sequences == list(range(1, len(sequences) + 1))
    assert [one["sequence"] for one in whole] == sequences


@pytest.mark.promise("WS-04")
def test_the_user_is_told_how_a_task_ended(client: httpx.Client, socket: Socket) -> None:
    socket.send(type="notifications", id="news")
    body = {"agent": "chat", "message": "Hello there"}
    task_id = client.post("/api/v1/tasks", json=body).json()["task_id"]
    while True:
        told = socket.next_of("news")["data"]
        if told["resource"] == f"task/{task_id}":
            break
    assert told["kind"] == "task.completed"
    socket.send(type="leave", id="news")
    assert socket.until("news", "end")[-1] == {"type": "end", "id": "news"}


@pytest.mark.promise("WS-05")
def test_what_is_of_others_is_not_there(platform: Platform, socket: Socket) -> None:
    socket.send(type="task", id="task", agent=AGENT, message=SUM)
    asked = socket.until("task", "interrupt")
    task_id, question = asked[0]["data"]["task_id"], asked[-1]["data"]
    socket.send(type="chat", id="chat", message="Hello there")
    turn_id = socket.until("chat", "end")[0]["data"]["turn_id"]

    with opened(platform, new_tenant(platform).api_key) as stranger:
        stranger.send(type="resume", id="1", turn_id=turn_id)
        stranger.send(type="resume", id="2", task_id=task_id)
        stranger.send(type="cancel", id="3", task_id=task_id)
        stranger.send(
            type="answer",
            id="4",
            task_id=task_id,
            interrupt_id=question["interrupt_id"],
            answer={"approved": True},
        )
        codes = [
            stranger.until(name, "error")[-1]["problem"]["code"] for name in ("1", "2", "3", "4")
        ]
    assert codes == ["TURN_NOT_FOUND", "TASK_NOT_FOUND", "TASK_NOT_FOUND", "TASK_NOT_FOUND"]

    socket.send(type="cancel", id="mine", task_id=task_id)
    assert socket.until("mine", "end")[-1]["data"]["state"] == "cancelled"
    assert socket.until("task", "end")[-2]["event"] == "task.failed"


@pytest.mark.promise("WS-06")
def test_bad_input_and_one_too_many_are_refused_and_the_socket_stays(socket: Socket) -> None:
    socket.connection.send("{no json")
    assert socket.next_of(None)["problem"]["code"] == "INVALID_ARGUMENT"
    socket.send(type="chat", id="bad", message="")
    bad = socket.until("bad", "error")[-1]["problem"]
    assert bad["errors"][0]["field"] == "message"
    names = [f"n{number}" for number in range(32)]
    for name in names:
        socket.send(type="notifications", id=name)
    socket.send(type="chat", id="more", message="Hello")
    more = socket.until("more", "error")[-1]["problem"]
    assert more["status"] == 429
    assert "32 conversations" in more["detail"]
    socket.send(type="leave", id=names[0])
    socket.until(names[0], "end")
    socket.send(type="chat", id="more", message="Hello")
    socket.until("more", "end")
    socket.connection.send("x" * (1024 * 1024 + 1))
    assert closing_code(socket) == 1009


@pytest.mark.promise("WS-06")
def test_pages_of_unknown_origins_and_strangers_do_not_connect(
    platform: Platform, tenant: NewTenant
) -> None:
    for headers, status in (
        ({"authorization": f"Bearer {tenant.api_key}", "origin": "https://evil.example"}, 403),
        ({"authorization": f"Bearer mw_{new_id()}"}, 401),
    ):
        with (
            pytest.raises(InvalidStatus) as refused,
            opened(platform, "", additional_headers=headers),
        ):
            pass
        assert refused.value.response.status_code == status
    offered = ["meshwright.v1", f"meshwright.key.{tenant.api_key}"]
    with opened(platform, "", additional_headers={}, subprotocols=offered) as page:
        assert page.connection.subprotocol == "meshwright.v1"
        page.send(type="ping")
        assert page.next_of(None) == {"type": "pong"}


def closing_code(socket: Socket) -> int | None:
    """Return the code with which the gateway closes."""
    socket.connection.recv_events_thread.join(RECEIVE_SECONDS)
    return socket.connection.close_code
