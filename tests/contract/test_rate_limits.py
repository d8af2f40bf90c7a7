"""Limits of requests on the whole platform, in all arrangements (features.md G7)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import openai
import pytest

from meshwright.session.v1 import tenant_pb2
from tests.asking import eventually
from tests.platform_process import Platform
from tests.tenants import NewTenant, new_tenant

SEARCH: Final = "/api/v1/search"
QUESTION: Final = {"query": "anything"}
RELOAD_SECONDS: Final = 2.0
FREE: Final = "tiers: {free: {per_minute: 20, concurrent: 2}}"
"""As it is by default; here the settings are so that nobody meets a limit by accident."""


@pytest.fixture
def file(platform: Platform) -> Iterator[Path]:
    """The file with the limits of the platform."""
    file = Path(platform.environment["MESHWRIGHT_GATEWAY__LIMITS__FILE"])
    yield file
    file.write_text("{}")


@pytest.fixture
def starter(platform: Platform, file: Path) -> NewTenant:
    """A tenant whose users have the free tier: 20 a minute, 2 at the same time."""
    # Somebody else looks, so that none of the twenty is used up.
    with platform.client(new_tenant(platform, tenant_pb2.PLAN_STARTER).api_key) as client:
        file.write_text(FREE)
        eventually(lambda: told(client) == "20", timeout_seconds=10 * RELOAD_SECONDS)
    return new_tenant(platform, tenant_pb2.PLAN_STARTER)


def told(client: httpx.Client) -> str:
    """Return the limit that an answer speaks of."""
    return client.post(SEARCH, json=QUESTION).headers["x-ratelimit-limit-requests"]


@pytest.mark.promise("RATE-01", "RATE-03")
def test_a_free_user_gets_twenty_pieces_of_work_a_minute(
    platform: Platform, starter: NewTenant
) -> None:
    with platform.client(starter.api_key) as client:
        answers = [client.post(SEARCH, json=QUESTION) for _ in range(21)]
        statuses = [answer.status_code for answer in answers]
        # One comes back every 3 s, on a slow machine within these requests.
        assert statuses[:20] == [200] * 20
        while answers[-1].status_code == 200:
            answers.append(client.post(SEARCH, json=QUESTION))
        assert client.get("/api/v1/sessions").status_code == 200
    assert answers[0].headers["x-ratelimit-limit-requests"] == "20"
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "19"
    refusal = answers[-1]
    assert refusal.status_code == 429
    assert 1 <= int(refusal.headers["retry-after"]) <= 3
    assert refusal.json()["metadata"]["limit"] == "user"
    official = openai.OpenAI(base_url=f"{platform.url}/v1", api_key=starter.api_key, max_retries=0)

    def embed() -> bool:
        official.embeddings.create(model="sim-id:mini", input="x")
        return False

    with official, pytest.raises(openai.RateLimitError):
        eventually(embed)


@pytest.mark.promise("RATE-04")
def test_a_free_user_has_two_streams_at_a_time(platform: Platform, starter: NewTenant) -> None:
    body = {
        "model": "sim-id:mini-tps2-n1000",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
    }

    @contextlib.contextmanager
    def stream(client: httpx.Client) -> Iterator[httpx.Response]:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            pieces = response.iter_raw()
            if response.status_code == 200:
                next(pieces)
            yield response
            # Whoever lets go of it ends the answer.
            del pieces

    with platform.client(starter.api_key) as client, stream(client) as first:
        assert first.status_code == 200
        with stream(client) as second:
            assert second.status_code == 200
            with stream(client) as third:
                assert third.status_code == 429
                assert third.headers["retry-after"] == "1"

        def let_in() -> bool:
            with stream(client) as further:
                return further.status_code == 200

        # The second has left: what it had is free, without waiting for anything to expire.
        left_at = time.monotonic()
        eventually(let_in)
        assert time.monotonic() - left_at < 10


@pytest.mark.promise("RATE-05")
def test_limits_follow_their_file(platform: Platform, starter: NewTenant, file: Path) -> None:
    with platform.client(starter.api_key) as client:
        for content, expected in (
            ("tiers: {free: {per_minute: 1000}}", "1000"),
            ("tiers: {free: {per_minute: 0}}\nroutes: {search: {per_minute: 777}}", "777"),
        ):
            file.write_text(content)
            eventually(
                lambda expected=expected: told(client) == expected,  # type: ignore[misc]
                timeout_seconds=10 * RELOAD_SECONDS,
            )
        file.write_text("tiers: {free: {per_minute: many}}")
        time_to_read = time.monotonic() + RELOAD_SECONDS
        eventually(lambda: time.monotonic() > time_to_read)
        assert told(client) == "777"
