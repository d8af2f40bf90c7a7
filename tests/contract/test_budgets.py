"""Budgets of tokens and money, as callers of a running platform see them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.asking import eventually
from tests.contract.made_tenant import Made, starter
from tests.platform_process import Platform

QUESTION = {"model": "offline", "messages": [{"role": "user", "content": "What is 6*7?"}]}


@pytest.fixture
def tenant(platform: Platform) -> Made:
    """A tenant of its own, of the starter plan."""
    return starter(platform)


@pytest.mark.promise("BUDGET-05")
def test_used_held_limit_and_the_end_of_the_day_are_shown(tenant: Made) -> None:
    with tenant.client() as client:
        assert 200 == client.post("/v1/chat/completions", json=QUESTION).status_code

        def shown() -> list[tuple[str, str, int | None, bool, int]]:
            report = client.get("/api/v1/budgets").json()
            assert report["degraded"] is False
            return [
                (one["scope"], one["name"], one["limit"], one["used"] > 0, one["reserved"])
                for one in report["budgets"]
            ]

        eventually(
            lambda: (
                shown()
                == [
                    ("tenant", "tokens_per_day", 500_000, True, 0),
                    ("tenant", "cost_micro_usd_per_day", None, False, 0),
                    ("user", "tokens_per_day", 100_000, True, 0),
                ]
            )
        )
        reset = datetime.fromisoformat(
            client.get("/api/v1/budgets").json()["budgets"][0]["reset_time"]
        )
        assert (0, 0, 0) == (reset.hour, reset.minute, reset.second)
        assert reset > datetime.now(UTC)
        used = client.get("/api/v1/quota").json()["tokens_per_day"]["used"]
        assert used in {0, client.get("/api/v1/budgets").json()["budgets"][0]["used"]}


@pytest.mark.promise("BUDGET-05")
def test_a_call_beyond_the_users_budget_is_told_which_one_and_until_when(tenant: Made) -> None:
    long = {**QUESTION, "messages": [{"role": "user", "content": "word " * 90_000}]}
    with tenant.client() as client:
        refused = client.post("/v1/chat/completions", json=long)
    assert 429 == refused.status_code, refused.text
    assert int(refused.headers["retry-after"]) > 1
