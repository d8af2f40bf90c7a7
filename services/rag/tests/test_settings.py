"""Where the indexes are: what settings may say, and what it costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from pydantic import ValidationError

from meshwright_common.settings import redacted
from meshwright_rag.settings import FullTextSettings, RagSection, VectorSettings

DRIVERS = ("pymilvus", "elasticsearch", "aiobotocore")
"""Together 3 s and 140 MB."""


def test_both_indexes_are_embedded_unless_told_otherwise() -> None:
    section = RagSection()
    assert section.vectors.is_embedded
    assert section.full_text.is_embedded


@pytest.mark.parametrize("url", ["", "embedded", "milvus://x", "http://", "localhost:19530"])
def test_an_address_that_names_no_server_is_refused(url: str) -> None:
    for settings in (VectorSettings, FullTextSettings):
        with pytest.raises(ValidationError, match="must be embedded: or http"):
            settings(url=url)


@pytest.mark.parametrize("name", ["a b", "../x", "", "x" * 101, "\u0430"])
def test_a_name_that_the_stores_do_not_take_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        VectorSettings(collection=name)
    with pytest.raises(ValidationError):
        FullTextSettings(index=name)


def test_no_credential_is_told() -> None:
    told = redacted(
        RagSection(
            vectors=VectorSettings(url="http://root:s3cret@milvus:19530", token="s3cret"),
            full_text=FullTextSettings(url="https://elastic:s3cret@search", api_key="s3cret"),
        )
    )
    assert "s3cret" not in str(told)


@pytest.mark.asyncio
async def test_no_driver_is_loaded_for_indexes_that_are_embedded() -> None:
    program = "import sys, meshwright_rag.app; print(*sys.modules)"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(DRIVERS).isdisjoint(done.stdout.split())
