"""Buckets of a test's own in a real S3 server."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiobotocore.session import get_session

from meshwright_common.settings import ObjectSettings

PREFIX = "some/prefix"


@dataclass
class Bucket:
    """A bucket, and how to look into it past the store."""

    client: Any
    name: str
    settings: ObjectSettings

    async def keys(self) -> list[str]:
        """Return the keys of its objects."""
        answer = await self.client.list_objects_v2(Bucket=self.name)
        return [one["Key"] for one in answer.get("Contents", ())]

    async def uploads(self) -> list[str]:
        """Return the keys of uploads that have not ended."""
        answer = await self.client.list_multipart_uploads(Bucket=self.name)
        return [one["Key"] for one in answer.get("Uploads", ())]


@contextlib.asynccontextmanager
async def make_bucket(endpoint: str, *, object_lock: bool = False) -> AsyncIterator[Bucket]:
    """Make a bucket of its own, and the settings of a store below a prefix in it."""
    name = f"test-{secrets.token_hex(6)}"
    async with get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="tester",
        aws_secret_access_key="secret",
    ) as client:
        await client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
        url = f"s3://tester:secret@{name}/{PREFIX}"
        yield Bucket(client, name, ObjectSettings(url=url, endpoint=endpoint))
