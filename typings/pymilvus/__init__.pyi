# ruff: noqa: ASYNC109 - the parameters are those of the driver
"""The part of pymilvus that is used here; it ships no types."""

from collections.abc import Sequence
from typing import Any

class DataType:
    VARCHAR: DataType
    INT64: DataType
    FLOAT_VECTOR: DataType

class CollectionSchema:
    def add_field(self, field_name: str, datatype: DataType, **kwargs: Any) -> CollectionSchema: ...

class IndexParams:
    def add_index(self, field_name: str, **kwargs: Any) -> None: ...

class AsyncMilvusClient:
    def __init__(
        self,
        uri: str = ...,
        *,
        token: str = ...,
        timeout: float | None = ...,
        dedicated: bool = ...,
        **kwargs: Any,
    ) -> None: ...
    @classmethod
    def create_schema(cls, **kwargs: Any) -> CollectionSchema: ...
    @classmethod
    def prepare_index_params(cls) -> IndexParams: ...
    async def get_server_version(self, timeout: float | None = ...) -> str: ...
    async def has_collection(self, collection_name: str, timeout: float | None = ...) -> bool: ...
    async def list_collections(self, timeout: float | None = ...) -> list[str]: ...
    async def drop_collection(self, collection_name: str, timeout: float | None = ...) -> None: ...
    async def create_collection(
        self,
        collection_name: str,
        *,
        schema: CollectionSchema,
        consistency_level: str = ...,
        num_partitions: int = ...,
        timeout: float | None = ...,
    ) -> None: ...
    async def create_index(
        self, collection_name: str, index_params: IndexParams, timeout: float | None = ...
    ) -> None: ...
    async def load_collection(self, collection_name: str, timeout: float | None = ...) -> None: ...
    async def insert(
        self, collection_name: str, data: Sequence[dict[str, Any]], timeout: float | None = ...
    ) -> dict[str, Any]: ...
    async def delete(
        self, collection_name: str, *, filter: str, timeout: float | None = ...
    ) -> dict[str, Any]: ...
    async def query(
        self,
        collection_name: str,
        *,
        filter: str,
        output_fields: Sequence[str],
        consistency_level: str = ...,
        timeout: float | None = ...,
    ) -> Sequence[dict[str, Any]]: ...
    async def search(
        self,
        collection_name: str,
        *,
        data: Sequence[Sequence[float]],
        anns_field: str,
        filter: str,
        limit: int,
        output_fields: Sequence[str],
        search_params: dict[str, Any],
        consistency_level: str = ...,
        timeout: float | None = ...,
    ) -> Sequence[Sequence[dict[str, Any]]]: ...
    async def close(self) -> None: ...
