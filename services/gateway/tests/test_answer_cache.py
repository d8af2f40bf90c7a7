"""Stored answers over HTTP: what the header may say, and what the answer's head tells."""

from __future__ import annotations

import openai
import pytest

from meshwright_common.errors import InvalidArgument
from meshwright_gateway.http.answer_cache import cache_use
from services.gateway.tests.platform import Platform


def test_the_header_says_how_stored_answers_are_used() -> None:
    exact = cache_use("exact")
    assert (exact.semantic, exact.HasField("ttl"), exact.refresh) == (False, False, False)
    whole = cache_use("Semantic; min-similarity=0.9 ;ttl=3600;refresh; no-store; private")
    assert (whole.semantic, whole.min_similarity, whole.ttl.seconds) == (True, 0.9, 3600)
    assert (whole.refresh, whole.no_store, whole.private) == (True, True, True)


@pytest.mark.parametrize(
    "header",
    [
        *("", "yes", "exact,ttl=1", "exact; ttl", "exact; ttl=0", "exact; ttl=604801"),
        *("exact; ttl=1.5", "exact; refresh=1", "exact; refresh; refresh", "exact; shiny"),
        *("exact; min-similarity=0.9", "semantic; min-similarity=0.4", "exact;"),
        *("semantic; min-similarity=nan", "semantic; min-similarity=x", "exact;" + " " * 200),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_by_name(header: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        cache_use(header)
    assert [one.field for one in caught.value.field_violations] == ["x-meshwright-cache"]


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answers_head_tells_where_it_comes_from(platform: Platform, stream: bool) -> None:
    asking: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "?"}]
    async with openai.AsyncOpenAI(
        base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0
    ) as client:
        for header, told in ({"x-meshwright-cache": "exact"}, ("HIT", "7")), ({}, (None, None)):
            raw = await client.chat.completions.with_raw_response.create(
                model="m", messages=asking, stream=stream, extra_headers=header
            )
            assert (raw.headers.get("x-cache"), raw.headers.get("age")) == told
            await raw.http_response.aread()
