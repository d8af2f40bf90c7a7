"""Writes to the index of memories while a long conversation goes on."""

import json
import re
import time
import urllib.request
from typing import Any

from bench.directives import ReplyPlan
from bench.measurement import Measurement
from bench.targets import RunningTarget

NAME = "memory_writes"
ABOUT = (
    "writes to the vector index of memories in 200 turns of one session that teach something each; "
    "share_of_turns is against one write a turn"
)
TURNS = 200
QUICK_TURNS = 40
TURNS_OF_SUMMARY = 10
WAIT_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.2
_WRITES = re.compile(
    r'^meshwright_rag_memory_writes_total\{kind="put"\} ([0-9.e+]+)$', re.MULTILINE
)


def measure(running: RunningTarget, *, quick: bool) -> list[Measurement]:
    """Hold the conversation, wait for its last summary, and count."""
    turns = QUICK_TURNS if quick else TURNS
    before = _writes(running)
    session_id = _ask(running, "/api/v1/sessions", {})["session_id"]
    began = time.monotonic()
    for number in range(turns):
        question = f"I like tea, cup number {number}. {_learning(number).directive()}"
        body = {"message": question, "session_id": session_id, "stream": False, "agent": "chat"}
        _ask(running, "/api/v1/chat", body)
    seconds = time.monotonic() - began
    summaries = _summaries(running, session_id, turns // TURNS_OF_SUMMARY)
    writes = _writes(running) - before
    values = {
        "turns": float(turns),
        "summaries": float(summaries),
        "vector_writes": writes,
        "share_of_turns_percent": writes / turns * 100,
        "ms_per_turn": seconds / turns * 1000,
    }
    failed = {} if summaries == turns // TURNS_OF_SUMMARY else {"summaries missing": 1}
    return [Measurement(NAME, running.target, 0, values, failed)]


def _learning(number: int) -> ReplyPlan:
    """Return what the model answers: also to whoever asks it to summarise that turn."""
    fact = {"text": f"The user likes tea {number}.", "kind": "preference", "source": "user"}
    return ReplyPlan(text=json.dumps({"summary": f"Of tea {number}.", "facts": [fact]}))


def _summaries(running: RunningTarget, session_id: str, wanted: int) -> int:
    """Return how many summaries the session has, once there are as many as wanted, or in time."""
    path = f"/api/v1/memories?kind=summary&page_size=200&session_id={session_id}"
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = len(json.loads(_call(running, path, None))["memories"])
        if found >= wanted or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_EVERY_SECONDS)


def _writes(running: RunningTarget) -> float:
    """Return the writes so far; 0 where the index is in a process of its own."""
    found = _WRITES.search(_call(running, "/metrics", None).decode())
    return float(found[1]) if found else 0.0


def _ask(running: RunningTarget, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(_call(running, path, body))
    return answer


def _call(running: RunningTarget, path: str, body: dict[str, Any] | None) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - the loopback, by http
        f"{running.url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "authorization": f"Bearer {running.api_key}",
            "content-type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content
