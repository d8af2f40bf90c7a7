"""OpenAI-compatible embeddings."""

import math
from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from meshwright_common.errors import invalid
from meshwright_model_router.domain.ports import Vectors
from meshwright_model_router.providers.endpoint import Endpoint
from meshwright_model_router.providers.failures import broken_protocol
from meshwright_model_router.providers.http import post, read_body

PATH: Final = "embeddings"
UNIT_TOLERANCE: Final = 1e-3
"""A vector whose length is this near to 1 is passed on as it is."""


class _Item(msgspec.Struct):
    embedding: list[float]
    index: int


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class OpenAiEmbeddings:
    """EmbeddingProvider over one endpoint; `dimensions` is the length its vectors must have."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, dimensions: int) -> None:
        self._session = session
        self._endpoint = endpoint
        self._dimensions = dimensions

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int, seconds_left: float | None
    ) -> Vectors:
        if dimensions > self._dimensions:
            raise invalid("dimensions", f"must be at most {self._dimensions} for {model!r}")
        endpoint, timeouts = self._endpoint, self._endpoint.timeouts
        request: dict[str, object] = {
            "model": model,
            "input": list(texts),
            "encoding_format": "float",
        }
        if dimensions:
            request["dimensions"] = dimensions
        seconds = timeouts.total if seconds_left is None else min(timeouts.total, seconds_left)
        body = msgspec.json.encode(request)
        async with post(self._session, endpoint, PATH, body, seconds=seconds) as response:
            answer = await read_body(endpoint, response, seconds=seconds)
        try:
            decoded = _decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise broken_protocol(endpoint, f"its embeddings cannot be read ({error})") from error
        items = sorted(decoded.data, key=lambda item: item.index)
        if [item.index for item in items] != list(range(len(texts))):
            raise broken_protocol(endpoint, f"{len(items)} vectors for {len(texts)} texts")
        wanted = dimensions or self._dimensions
        values = [self._unit(item.embedding, wanted) for item in items]
        return Vectors(values, decoded.usage.prompt_tokens if decoded.usage else 0)

    def _unit(self, vector: list[float], wanted: int) -> list[float]:
        if len(vector) != wanted:
            raise broken_protocol(
                self._endpoint,
                f"a vector of {len(vector)} numbers where {wanted} are expected; "
                "check embedding_dimensions",
            )
        length = math.hypot(*vector)
        if not math.isfinite(length) or length == 0:
            raise broken_protocol(self._endpoint, "a vector without a direction")
        if abs(length - 1) <= UNIT_TOLERANCE:
            return vector
        return [value / length for value in vector]
