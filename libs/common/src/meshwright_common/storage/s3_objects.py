"""Objects in S3, or in a server that speaks it: `s3://[key:secret@]bucket/prefix`.

Small objects go in one request, larger ones in parts while they arrive. Every request with bytes
says their SHA-256, which servers that know checksums verify. Without a key in the URL, the
driver's usual places for credentials are read.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from meshwright_common.settings import ObjectSettings, SettingsError
from meshwright_common.storage.objects import (
    BLOCK_BYTES,
    LEFTOVER_SECONDS,
    ObjectNotFound,
    ObjectStoreUnavailable,
    StoredObject,
    checked,
)
from meshwright_common.telemetry.logging import get_logger

CONNECT_TIMEOUT_SECONDS: Final = 2
READ_TIMEOUT_SECONDS: Final = 30
RETRIES: Final = 2
MAX_CONNECTIONS: Final = 20
PART_BYTES: Final = 8 * 1024 * 1024
"""What one upload holds in memory. S3 takes parts from 5 MiB on, and 10 000 of them."""

ABORT_SECONDS: Final = 10.0
_ABSENT: Final = frozenset({"404", "NoSuchKey"})
_REFUSED: Final = frozenset({400, 403, 404})
_NO_LOCKS: Final = frozenset({"400", "403", "404", "405", "501"})
"""Answers of servers and buckets without object lock, or that do not tell us."""

logger = get_logger(__name__)


@contextlib.asynccontextmanager
async def open_s3(settings: ObjectSettings) -> AsyncIterator[S3Objects]:
    """Open a bucket. A server that is away is no obstacle: calls fail until it is there.

    Raises: SettingsError when the server knows no such bucket, or refuses the credentials.
    """
    url = urlsplit(settings.url)
    if not url.hostname:
        raise SettingsError(
            "MESHWRIGHT_OBJECTS__URL: names no bucket; use s3://[key:secret@]bucket/prefix"
        )
    client = get_session().create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint or None,
        aws_access_key_id=unquote(url.username) if url.username else None,
        aws_secret_access_key=unquote(url.password) if url.password else None,
        config=AioConfig(
            signature_version="s3v4",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"total_max_attempts": 1 + RETRIES, "mode": "standard"},
            max_pool_connections=MAX_CONNECTIONS,
            # Other servers than Amazon's seldom have a host name for every bucket.
            s3={"addressing_style": "path" if settings.endpoint else "auto"},
        ),
    )
    async with client as opened:
        store = S3Objects(opened, url.hostname, unquote(url.path).strip("/"))
        await store.check()
        yield store


class S3Objects:
    """Implements `ObjectStore` in one bucket, below a prefix."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._has_lock: bool | None = None

    async def check(self) -> None:
        """Look at the bucket, and abort what dead processes left half uploaded.

        Raises: SettingsError for a bucket that is not there or not ours.
        """
        try:
            with _translated():
                await self._client.head_bucket(Bucket=self._bucket)
            await self.sweep()
        except ObjectStoreUnavailable as error:
            status = error.metadata.get("status", "")
            if status.isdecimal() and int(status) in _REFUSED:
                raise SettingsError(
                    f"MESHWRIGHT_OBJECTS__URL: the bucket {self._bucket} cannot be used:"
                    f" {error.metadata['cause']} (HTTP {status}); create it, or correct the URL,"
                    " the credentials, MESHWRIGHT_OBJECTS__ENDPOINT or MESHWRIGHT_OBJECTS__REGION"
                ) from error
            logger.warning("object_store_away", cause=error.metadata["cause"])

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], *, keep_until: datetime | None = None
    ) -> StoredObject:
        place = {**self._place(key), **await self._lock(keep_until)}
        whole = hashlib.sha256()
        size = 0
        parts = _parts(chunks)
        async with aclosing(parts):
            first = await anext(parts)
            whole.update(first)
            size += len(first)
            if len(first) < PART_BYTES:
                with _translated(key):
                    await self._client.put_object(
                        **place,
                        Body=first,
                        # Named too: servers want it for an object that is locked.
                        ChecksumAlgorithm="SHA256",
                        ChecksumSHA256=_checksum(first),
                    )
            else:
                async with self._upload(key, place) as upload:
                    await upload.add(first)
                    async for part in parts:
                        whole.update(part)
                        size += len(part)
                        await upload.add(part)
        return StoredObject(key, size, whole.hexdigest())

    async def open(self, key: str) -> AsyncIterator[bytes]:
        place = self._place(key)
        with _translated(key):
            answer = await self._client.get_object(**place, ChecksumMode="ENABLED")
            # A body that ends early, or has another checksum, raises at its end.
            async with answer["Body"] as body:
                while block := await body.read(BLOCK_BYTES):
                    yield block

    async def delete(self, key: str) -> None:
        place = self._place(key)
        with _translated(key):
            await self._client.delete_object(**place)

    async def exists(self, key: str) -> bool:
        place = self._place(key)
        try:
            with _translated(key):
                await self._client.head_object(**place)
        except ObjectNotFound:
            return False
        return True

    async def keys(self, folder: str, *, most: int, after: str = "") -> list[str]:
        found: list[str] = []
        with _translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket,
                Prefix=f"{self._prefix}{checked(folder)}/",
                PaginationConfig={"MaxItems": most},
                **({"StartAfter": f"{self._prefix}{after}"} if after else {}),
            )
            async for page in pages:
                found += (one["Key"].removeprefix(self._prefix) for one in page.get("Contents", ()))
        return found

    async def _lock(self, keep_until: datetime | None) -> dict[str, Any]:
        """Return what locks an object until then, in a bucket that has locks."""
        if keep_until is None:
            return {}
        if self._has_lock is None:
            try:
                with _translated():
                    answer = await self._client.get_object_lock_configuration(Bucket=self._bucket)
                lock = answer.get("ObjectLockConfiguration", {})
                self._has_lock = lock.get("ObjectLockEnabled") == "Enabled"
            except ObjectStoreUnavailable as error:
                if error.metadata.get("status", "") not in _NO_LOCKS:
                    raise
                self._has_lock = False
        if not self._has_lock:
            return {}
        return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": keep_until}

    async def sweep(self) -> int:
        """Abort uploads that have not ended for an hour; return how many."""
        oldest = datetime.now(UTC) - timedelta(seconds=LEFTOVER_SECONDS)
        aborted = 0
        with _translated():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            async for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < oldest:
                        await self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        aborted += 1
        return aborted

    @contextlib.asynccontextmanager
    async def _upload(self, key: str, beginning: dict[str, Any]) -> AsyncIterator[_Upload]:
        """Begin an upload in parts; it is whole when the block ends, and gone when that fails."""
        upload = _Upload(self._client, self._place(key), key)
        await upload.begin(beginning)
        finished = False
        try:
            yield upload
            await upload.finish()
            finished = True
        finally:
            if not finished:
                await upload.abort()

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{checked(key)}"}


class _Upload:
    """One object on its way, in parts."""

    def __init__(self, client: Any, place: dict[str, str], key: str) -> None:
        self._client = client
        self._place = place
        self._key = key
        self._parts: list[dict[str, object]] = []

    async def begin(self, beginning: dict[str, Any]) -> None:
        with _translated(self._key):
            answer = await self._client.create_multipart_upload(
                **beginning, ChecksumAlgorithm="SHA256"
            )
        self._place["UploadId"] = answer["UploadId"]

    async def add(self, part: bytes) -> None:
        number = len(self._parts) + 1
        checksum = _checksum(part)
        with _translated(self._key):
            answer = await self._client.upload_part(
                **self._place, PartNumber=number, Body=part, ChecksumSHA256=checksum
            )
        self._parts.append(
            {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}
        )

    async def finish(self) -> None:
        with _translated(self._key):
            await self._client.complete_multipart_upload(
                **self._place, MultipartUpload={"Parts": self._parts}
            )

    async def abort(self) -> None:
        """Give up the parts. When that fails too, the next start of a process does it."""
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                with _translated(self._key):
                    await self._client.abort_multipart_upload(**self._place)
        except (ObjectNotFound, ObjectStoreUnavailable, TimeoutError) as error:
            logger.warning("upload_left_behind", key=self._key, cause=str(error))


async def _parts(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield parts of exactly PART_BYTES, and then what is left: perhaps nothing, the first time."""
    gathered = bytearray()
    alone = True
    async for chunk in chunks:
        gathered += chunk
        while len(gathered) >= PART_BYTES:
            yield bytes(gathered[:PART_BYTES])
            del gathered[:PART_BYTES]
            alone = False
    if gathered or alone:
        yield bytes(gathered)


def _checksum(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


@contextlib.contextmanager
def _translated(key: str = "") -> Iterator[None]:
    """Turn the driver's errors into ours; without a key, nothing is an absent object."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        if key and code in _ABSENT:
            raise ObjectNotFound(f"There is no object {key}.", key=key) from error
        raise ObjectStoreUnavailable(
            "The object store cannot serve this now.", cause=code or str(error), status=status
        ) from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
        raise ObjectStoreUnavailable(
            "The object store cannot serve this now.", cause=str(error) or type(error).__name__
        ) from error
