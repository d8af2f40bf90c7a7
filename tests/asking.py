"""What several suites do with a platform: upload, wait, ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from tests.sse import ENDS, Event, events

WAIT_SECONDS: Final = 60.0
LOOK_EVERY_SECONDS: Final = 0.05
LANGCHAIN_ANSWER: Final = "Hello from a model of LangChain"
"""What the model `langchain-fake` says."""
DOCUMENTS: Final = "/api/v1/knowledge-bases/default/documents"


def eventually(condition: Callable[[], bool], *, timeout_seconds: float = WAIT_SECONDS) -> None:
    """Return when `condition` is true. Raises: AssertionError after the time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(LOOK_EVERY_SECONDS)


def upload(client: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    """Upload a document and return it, not yet indexed."""
    answer = client.post(DOCUMENTS, files={"file": (name, content)})
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()["document"]
    return document


def indexed(client: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    """Upload a document and return it when it is ready or failed."""
    return ended(client, upload(client, name, content)["document_id"])


def ended(client: httpx.Client, document_id: str) -> dict[str, Any]:
    """Return a document when it is ready or failed."""
    document: dict[str, Any] = {}

    def is_ended() -> bool:
        document.update(client.get(f"/api/v1/documents/{document_id}").json())
        return document["state"] in {"ready", "failed"}

    eventually(is_ended)
    return document


def ask(client: httpx.Client, message: str, **more: object) -> list[Event]:
    """Ask as a stream and return all events, of which the last ends the turn."""
    headers = {}
    if key := more.pop("idempotency_key", None):
        headers["idempotency-key"] = str(key)
    body = {"message": message, **more}
    with client.stream("POST", "/api/v1/chat", json=body, headers=headers) as response:
        seen = list(events(response))
    assert seen[-1].name in ENDS
    return seen


def turn_id_of(seen: list[Event]) -> str:
    """Return the id of the turn whose events these are."""
    return str(seen[0].data["turn_id"])


def follow(client: httpx.Client, turn_id: str, last_event_id: str) -> list[Event]:
    """Return the events of a turn after the one that was seen last."""
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    with client.stream("GET", f"/api/v1/turns/{turn_id}/events", headers=headers) as response:
        return list(events(response))
