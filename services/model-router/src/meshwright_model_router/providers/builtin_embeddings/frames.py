"""What goes through the pipes to the embedding process and back: a length, then MessagePack."""

import struct
from typing import Final

import msgspec

LENGTH: Final = struct.Struct(">I")


class Texts(msgspec.Struct):
    """A request: texts to embed."""

    texts: list[str]


class Embeddings(msgspec.Struct):
    """Its answer: float32 in the machine's own byte order, one vector after the other."""

    vectors: bytes
    tokens: int


_encoder: Final = msgspec.msgpack.Encoder()
decode_texts: Final = msgspec.msgpack.Decoder(Texts).decode
decode_embeddings: Final = msgspec.msgpack.Decoder(Embeddings).decode


def frame(message: Texts | Embeddings) -> bytes:
    """Return the message with its length in front."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
