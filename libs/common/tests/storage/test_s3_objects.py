"""What only a bucket can do wrong: be missing, be away, answer with half an object."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from libs.common.tests.storage.buckets import PREFIX, make_bucket
from meshwright_common.ids import new_id
from meshwright_common.settings import ObjectSettings, SettingsError, redacted
from meshwright_common.storage.objects import (
    ObjectStoreUnavailable,
    object_key,
    open_objects,
)

pytestmark = pytest.mark.asyncio

KEY = object_key(new_id(), "documents", new_id())


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@contextlib.asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[ObjectSettings, list[bytes]]]:
    """Serve these raw answers one a request, the last one again and again; give the requests."""
    waiting = list(answers)
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n")).strip())
        writer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = ObjectSettings(url="s3://a:b@bucket", endpoint=f"http://127.0.0.1:{port}")
        yield settings, requests


def answer(status: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: "
    return (
        head.encode() + str(len(body) if length is None else length).encode() + b"\r\n\r\n" + body
    )


FOUND = answer("200 OK")
NO_UPLOADS = answer("200 OK", b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")


async def test_objects_are_below_the_prefix(s3_server: str) -> None:
    """S8: key = prefix/tenants/<tenant>/…"""
    async with make_bucket(s3_server) as bucket, open_objects(bucket.settings) as store:
        await store.put(KEY, pieces(b"x"))
        assert await bucket.keys() == [f"{PREFIX}/{KEY}"]


async def test_a_missing_bucket_is_told_at_the_start(s3_server: str) -> None:
    settings = ObjectSettings(url="s3://a:b@nobody-made-this", endpoint=s3_server)
    with pytest.raises(SettingsError, match=r"MESHWRIGHT_OBJECTS__URL: the bucket nobody-made"):
        await open_objects(settings).__aenter__()


async def test_refused_credentials_are_told_at_the_start() -> None:
    async with answering(answer("403 Forbidden")) as (settings, _):
        with pytest.raises(SettingsError, match="credentials"):
            await open_objects(settings).__aenter__()


async def test_a_server_that_is_away_is_no_obstacle_to_the_start() -> None:
    """R-29: all but upload and download goes on."""
    settings = ObjectSettings(url="s3://a:b@bucket", endpoint="http://127.0.0.1:1")
    started = time.monotonic()
    async with open_objects(settings) as store:
        with pytest.raises(ObjectStoreUnavailable):
            await store.put(KEY, pieces(b"x"))
        with pytest.raises(ObjectStoreUnavailable):
            await store.exists(KEY)
    assert time.monotonic() - started < 20


async def test_a_busy_server_is_asked_three_times() -> None:
    """D7: two retries."""
    busy = answer("503 Slow Down")
    async with (
        answering(FOUND, NO_UPLOADS, busy) as (settings, requests),
        open_objects(settings) as store,
    ):
        del requests[:]
        with pytest.raises(ObjectStoreUnavailable):
            await store.put(KEY, pieces(b"x"))
        assert len(requests) == 3


@pytest.mark.promise("STORE-08")
async def test_half_an_object_is_never_a_whole_one() -> None:
    """F-35: a body that ends before its length."""
    async with (
        answering(FOUND, NO_UPLOADS, answer("200 OK", b"half", length=8)) as (settings, _),
        open_objects(settings) as store,
    ):
        with pytest.raises(ObjectStoreUnavailable):
            _ = [piece async for piece in store.open(KEY)]


async def test_what_a_dead_process_left_half_uploaded_is_swept(s3_server: str) -> None:
    """The test server says of every upload that it began in 2010."""
    async with make_bucket(s3_server) as bucket:
        await bucket.client.create_multipart_upload(Bucket=bucket.name, Key=f"{PREFIX}/{KEY}")
        await bucket.client.create_multipart_upload(Bucket=bucket.name, Key="of/others")
        async with open_objects(bucket.settings):
            assert await bucket.uploads() == ["of/others"]


async def test_an_upload_that_is_running_is_not_swept() -> None:
    now = datetime.now(UTC).isoformat()
    running = (
        "<ListMultipartUploadsResult><Upload><Key>k</Key><UploadId>u</UploadId>"
        f"<Initiated>{now}</Initiated></Upload></ListMultipartUploadsResult>"
    )
    async with (
        answering(FOUND, answer("200 OK", running.encode())) as (settings, requests),
        open_objects(settings),
    ):
        assert [line.split(b" ")[0] for line in requests] == [b"HEAD", b"GET"]


async def test_the_secret_of_the_url_is_not_told() -> None:
    told = redacted(ObjectSettings(url="s3://key:secret@bucket/prefix"))
    assert told["url"] == "s3://key:***@bucket/prefix"


@pytest.mark.parametrize("locked", [True, False])
async def test_what_has_to_be_kept_is_locked_where_the_bucket_has_locks(
    s3_server: str, locked: bool
) -> None:
    """R-24: whoever holds the platform's credentials cannot replace a checkpoint."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    async with make_bucket(s3_server, object_lock=locked) as bucket:
        async with open_objects(bucket.settings) as store:
            await store.put(KEY, pieces(b"x"), keep_until=until)
            await store.put(f"{KEY}.not", pieces(b"x"))
        kept = await bucket.client.head_object(Bucket=bucket.name, Key=f"{PREFIX}/{KEY}")
        free = await bucket.client.head_object(Bucket=bucket.name, Key=f"{PREFIX}/{KEY}.not")
    assert (kept.get("ObjectLockMode"), kept.get("ObjectLockRetainUntilDate")) == (
        ("COMPLIANCE", until) if locked else (None, None)
    )
    assert "ObjectLockMode" not in free
