"""Answers to requests that mean the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from meshwright_model_router.domain.call import CacheUse
from meshwright_model_router.domain.output import CacheStatus

if TYPE_CHECKING:
    from tests.caching.conftest import Cache

MISS, NEAR = CacheStatus.MISS, CacheStatus.SEMANTIC_HIT


@pytest.mark.asyncio
async def test_a_question_that_means_the_same_has_the_same_answer(cache: Cache) -> None:
    cache.meanings.vectors = {
        "What is the capital?": [1.0, 0.0],
        "Tell me the capital": [0.96, 0.28],
        "Who are you?": [0.0, 1.0],
    }
    use = CacheUse(semantic=True, min_similarity=0.95)
    assert await cache.status("What is the capital?", cache=use) is MISS
    assert await cache.status("Tell me the capital", cache=use) is NEAR
    assert await cache.status("Who are you?", cache=use) is MISS
    strict = CacheUse(semantic=True, min_similarity=0.99)
    assert await cache.status("Tell me the capital", cache=strict) is MISS
    exact = await cache.status("What is the capital?", caller=replace(cache.caller, roles=("x",)))
    assert exact is MISS


@pytest.mark.asyncio
async def test_numbers_and_negations_do_not_mean_the_same(cache: Cache) -> None:
    texts = ["Add 2 and 3", "Add 2 and 4", "Do not add 2 and 3", "可以吗", "不可以吗"]
    cache.meanings.vectors = {text: [1.0, 0.0] for text in texts}
    use = CacheUse(semantic=True)
    assert [await cache.status(text, cache=use) for text in texts] == [MISS] * 5


@pytest.mark.asyncio
async def test_a_scope_keeps_the_newest_questions(cache: Cache) -> None:
    axes = {f"Question {'abcd'[axis]}": [float(axis == i) for i in range(4)] for axis in range(4)}
    cache.meanings.vectors = axes | {f"{text} again": axes[text] for text in axes}
    use = CacheUse(semantic=True)
    for text in axes:
        await cache.ask(text, cache=use)
    await cache.settled()
    statuses = [
        await cache.status(f"{text} again", cache=CacheUse(True, no_store=True)) for text in axes
    ]
    assert statuses == [MISS, NEAR, NEAR, NEAR]
