"""What `meshwright doctor` says about the bucket."""

from __future__ import annotations

import pytest

from libs.common.tests.storage.buckets import make_bucket
from meshwright_cli.checks import check_objects

pytestmark = pytest.mark.asyncio


async def test_a_bucket_that_can_be_read_is_good(
    s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_bucket(s3_server) as bucket:
        monkeypatch.setenv("MESHWRIGHT_OBJECTS__URL", bucket.settings.url)
        monkeypatch.setenv("MESHWRIGHT_OBJECTS__ENDPOINT", s3_server)
        (finding,) = await check_objects()
    assert finding.good


@pytest.mark.parametrize("away", [False, True])
async def test_a_bucket_that_is_missing_or_away_is_told_with_what_to_do(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    monkeypatch.setenv("MESHWRIGHT_OBJECTS__URL", "s3://key:secret@nobody-made-this")
    monkeypatch.setenv("MESHWRIGHT_OBJECTS__ENDPOINT", "http://127.0.0.1:1" if away else s3_server)
    (finding,) = await check_objects()
    assert "MESHWRIGHT_OBJECTS__" in f"{finding.text} {finding.advice}"
    assert not finding.good


async def test_without_a_bucket_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHWRIGHT_OBJECTS__URL", raising=False)
    assert await check_objects() == []
