"""The part of aiobotocore that is used here; it ships no types."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from aiobotocore.config import AioConfig

class AioSession:
    def create_client(
        self,
        service_name: str,
        *,
        region_name: str | None = ...,
        endpoint_url: str | None = ...,
        aws_access_key_id: str | None = ...,
        aws_secret_access_key: str | None = ...,
        config: AioConfig | None = ...,
    ) -> AbstractAsyncContextManager[Any]: ...

def get_session() -> AioSession: ...
