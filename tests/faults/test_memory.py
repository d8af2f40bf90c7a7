"""Memory outlives the process that learned it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asking import ask, eventually
from tests.contract.test_memory import TURNS, fact, listed, remember, saying
from tests.platform_process import running_platform

pytestmark = pytest.mark.timeout(180)


@pytest.mark.promise("MEM-06")
def test_a_new_process_knows_what_was_said_and_summarises_once_what_was_due(
    data_folder: Path, provider_environment: dict[str, str]
) -> None:
    """Killed as the batch is full: whatever the summary had come to, it is stored once."""
    made = {"summary": "Of teas.", "facts": [{"text": "Likes oolong", "source": "user"}]}
    model = saying(json.dumps(made, separators=(",", ":")))
    with (
        running_platform(data_folder, environment=provider_environment) as first,
        first.client() as client,
    ):
        remember(client, fact("Lives in Rostock."))
        session = client.post("/api/v1/sessions", json={}).json()["session_id"]
        for number in range(TURNS):
            ask(client, f"I like oolong, cup {number}", model=model, session_id=session)
        first.kill()
    with (
        running_platform(data_folder, environment=provider_environment) as second,
        second.client() as client,
    ):
        assert "Rostock" in answer(ask(client, "In which city do I live?", agent="chat"))
        # The killed process may not have come to ask for the summary: the next turn does.
        ask(client, "One more cup", model=model, session_id=session)
        eventually(lambda: bool(summaries(client)), timeout_seconds=60)
        assert "oolong" in answer(ask(client, "What oolong do I like?", agent="chat"))
        ask(client, "And another", model=model, session_id=session)
        assert len(summaries(client)) == 1


def summaries(client: httpx.Client) -> list[dict[str, Any]]:
    return listed(client, kind="summary", include_superseded=True)


def answer(seen: list[Any]) -> str:
    return str(seen[-1].data["answer"])
