"""Deterministic embeddings: texts that share words are near each other."""

import base64
import math
import zlib
from array import array

import msgspec

from bench.openai_wire import EmbeddingRequest


def embed(text: str, dimensions: int) -> "array[float]":
    """Return a unit vector of float32: each word adds ±1 at places chosen by its checksum."""
    vector = array("f", bytes(4 * dimensions))
    for word in text.lower().split() or [""]:
        checksum = zlib.crc32(word.encode("utf-8", "replace"))
        vector[checksum % dimensions] += 1.0 if checksum & 1 << 31 else -1.0
    if not any(vector):  # the words cancelled each other
        vector[0] = 1.0
    length = math.sqrt(sum(value * value for value in vector))
    return array("f", (value / length for value in vector))


def texts_of(request: EmbeddingRequest) -> list[str]:
    """Return the inputs as texts; token lists become their numbers in words."""
    if isinstance(request.input, str):
        return [request.input]
    numbers = [item for item in request.input if isinstance(item, int)]
    if numbers:
        return [_words(numbers)]
    return [
        item if isinstance(item, str) else _words(item)
        for item in request.input
        if not isinstance(item, int)
    ]


def _words(numbers: list[int]) -> str:
    return " ".join(str(number) for number in numbers)


def answer(request: EmbeddingRequest, dimensions: int) -> bytes:
    """Return the body of the embedding answer, vectors as floats or base64 as asked."""
    texts = texts_of(request)
    vectors = [embed(text, request.dimensions or dimensions) for text in texts]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode()
            if request.encoding_format == "base64"
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(max(1, len(text) // 4) for text in texts)
    return msgspec.json.encode(
        {
            "object": "list",
            "data": data,
            "model": request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
