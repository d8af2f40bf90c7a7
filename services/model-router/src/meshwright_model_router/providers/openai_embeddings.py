"""OpenAI-compatible embeddings."""

import base64
import binascii
import sys
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

from meshwright_common.errors import invalid
from meshwright_model_router.domain.ports import Vectors
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.json_answer import post_json
from meshwright_model_router.providers.unit_vectors import unit_vector

PATH: Final = "embeddings"


class _Item(msgspec.Struct):
    embedding: list[float] | str
    index: int


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class OpenAiEmbeddings:
    """EmbeddingProvider over one endpoint; `dimensions` is the length its vectors must have."""

    def __init__(self, client: HttpClient, endpoint: Endpoint, dimensions: int) -> None:
        self._client = client
        self._endpoint = endpoint
        self._dimensions = dimensions

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int, seconds_left: float | None
    ) -> Vectors:
        if dimensions > self._dimensions:
            raise invalid("dimensions", f"must be at most {self._dimensions} for {model!r}")
        endpoint = self._endpoint
        request: dict[str, object] = {
            "model": model,
            "input": list(texts),
            "encoding_format": endpoint.embedding_encoding,
        }
        if dimensions:
            request["dimensions"] = dimensions
        answer = await post_json(
            self._client,
            endpoint,
            endpoint.path_of(PATH, model),
            request,
            _decode,
            seconds_left=seconds_left,
        )
        items = sorted(answer.data, key=lambda item: item.index)
        if [item.index for item in items] != list(range(len(texts))):
            raise broken_protocol(endpoint, f"{len(items)} vectors for {len(texts)} texts")
        wanted = dimensions or self._dimensions
        values = [unit_vector(endpoint, self._numbers(item), wanted) for item in items]
        return Vectors(values, answer.usage.prompt_tokens if answer.usage else 0)

    def _numbers(self, item: _Item) -> Sequence[float]:
        """Return the numbers of a vector; some servers send them as they like, not as asked."""
        if not isinstance(item.embedding, str):
            return item.embedding
        numbers = array("f")  # float32, little-endian on the wire
        try:
            numbers.frombytes(base64.b64decode(item.embedding, validate=True))
        except (binascii.Error, ValueError) as error:
            raise broken_protocol(self._endpoint, "a vector that is not base64") from error
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers
