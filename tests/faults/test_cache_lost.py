"""Redis loses everything amid the traffic: no turn, no message and no word of a stream is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import httpx
import pytest

from tests.asking import ask, follow, turn_id_of
from tests.cache import empty
from tests.platform_process import Platform
from tests.sse import Event, text_of
from tests.tenants import new_tenant

CONVERSATIONS: Final = 6
TURNS: Final = 4
SLOW: Final = "sim-n30-tps60"
"""Half a second of text."""
EVERY_SECONDS: Final = 0.15


@contextmanager
def emptied_again_and_again(platform: Platform, tenant_id: str) -> Iterator[list[int]]:
    """Empty the cache all the time; the list has how many keys were there each time."""
    counts: list[int] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(EVERY_SECONDS):
            counts.append(empty(platform, tenant_id))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield counts
    finally:
        ended.set()
        thread.join()


def converse(client: httpx.Client, session_id: str) -> list[list[Event]]:
    """Ask one question after the other; return the events of each turn."""
    return [
        ask(client, f"{SLOW} number {number}.", session_id=session_id, model=SLOW, agent="chat")
        for number in range(TURNS)
    ]


@pytest.mark.promise("CACHE-01")
def test_a_cache_that_is_emptied_amid_the_traffic_loses_nothing(platform: Platform) -> None:
    tenant = new_tenant(platform)
    with platform.client(tenant.api_key) as client:
        sessions = [
            client.post("/api/v1/sessions", json={"title": f"{number}"}).json()["session_id"]
            for number in range(CONVERSATIONS)
        ]
        with (
            emptied_again_and_again(platform, tenant.tenant_id) as counts,
            ThreadPoolExecutor(CONVERSATIONS) as threads,
        ):
            told = list(threads.map(lambda one: converse(client, one), sessions))
        assert sum(counts) > 0
        for session_id, turns in zip(sessions, told, strict=True):
            assert [turn[-1].name for turn in turns] == ["turn.completed"] * TURNS
            messages = all_messages(client, session_id)
            assert [one["sequence"] for one in messages] == [*range(1, 2 * TURNS + 1)]
            for number, turn in enumerate(turns):
                assert [event.sequence for event in turn] == [*range(1, len(turn) + 1)]
                question, answer = messages[2 * number : 2 * number + 2]
                assert f"number {number}." in str(question)
                assert text_of(turn) == text_of(follow(client, turn_id_of(turn), ""))
                assert text_of(turn) in str(answer)


def all_messages(client: httpx.Client, session_id: str) -> list[dict[str, object]]:
    answer = client.get(f"/api/v1/sessions/{session_id}/messages", params={"page_size": 200})
    found: list[dict[str, object]] = answer.json()["messages"]
    return found
