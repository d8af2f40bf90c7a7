"""What travels on a link: frames of logical calls, as many to a message as wait to be sent.

A frame is one byte for its kind, the number of its call and the length of its body (both 32 bits,
little-endian), then the body. A call begins with OPEN, ends with END from the server or CANCEL from
the client, and whatever arrives for a call that has ended is passed over.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import grpc
import msgspec

from meshwright_common.rpc.local_rpc import Pairs

LINK_PATH: Final = "/meshwright.mesh.v1.LinkService/Exchange"
HELLO: Final = "x-meshwright-link"
"""Initial metadata of a server that speaks links, with the version as its value."""
VERSION: Final = "1"

OPEN: Final = 1
"""Client: a call begins. Body: `Opening`."""
DATA: Final = 2
"""A message of a stream, or the last part of one."""
PART: Final = 3
"""A part of a message; more follow."""
HALF: Final = 4
"""Client: there are no more requests, or the one is whole."""
CANCEL: Final = 5
"""Client: the call is over for it, by cancellation or by its deadline."""
CREDIT: Final = 6
"""The reader of a stream makes room again. Body: how many bytes, 32 bits."""
INITIAL: Final = 7
"""Server: the initial metadata. Body: `Initial`."""
END: Final = 8
"""Server: the call has ended. Body: `Ending`."""
RETIRE: Final = 9
"""Server, call 0: no new calls on this link; it ends with those that run."""

LONG: Final = 10
"""A part of the only message of its direction, which HALF or END completes."""

PART_BYTES: Final = 64 * 1024
"""Longest body of a message's frame: longer messages go in parts, between other calls' frames."""
MAX_METADATA_BYTES: Final = 16 * 1024
"""As gRPC has it for both kinds of metadata: more is refused."""

_HEADER: Final = struct.Struct("<BII")
HEADER_BYTES: Final = _HEADER.size
_CREDIT: Final = struct.Struct("<I")
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class LinkError(Exception):
    """What came is no frame, or none that belongs there. The text says which."""


class Opening(msgspec.Struct, array_like=True, frozen=True):
    """The beginning of a call. Without a `request`, frames bring it, or several if `streams`."""

    path: str
    timeout_seconds: float | None
    metadata: tuple[tuple[str, Any], ...]
    request: bytes | None
    streams: bool


class Ending(msgspec.Struct, array_like=True, frozen=True):
    """The end of a call. `refused`: nothing of it was done, it may be made elsewhere.

    A `response` that is missing was brought by frames, if there is one.
    """

    code: int
    details: str
    trailing: tuple[tuple[str, Any], ...]
    response: bytes | None
    refused: bool

    @property
    def status_code(self) -> grpc.StatusCode:
        """The code as gRPC has it."""
        return _CODES.get(self.code, grpc.StatusCode.UNKNOWN)


Initial = tuple[tuple[str, Any], ...]
"""Metadata. The parser knows no union of text and bytes: `_check` does."""

_encode: Final = msgspec.msgpack.Encoder().encode
_opening: Final = msgspec.msgpack.Decoder(Opening).decode
_ending: Final = msgspec.msgpack.Decoder(Ending).decode
_initial: Final = msgspec.msgpack.Decoder(Initial).decode


def frame(kind: int, call: int, body: bytes = b"") -> bytes:
    """Return one frame."""
    return _HEADER.pack(kind, call, len(body)) + body


def message_frames(call: int, message: bytes) -> Iterator[bytes]:
    """Yield the frames that bring a message: parts, the last of them as DATA."""
    start = 0
    while len(message) - start > PART_BYTES:
        yield frame(PART, call, message[start : start + PART_BYTES])
        start += PART_BYTES
    yield frame(DATA, call, message[start:])


def long_frames(call: int, message: bytes) -> Iterator[bytes]:
    """Yield the frames that bring the only message of a direction."""
    for start in range(0, len(message), PART_BYTES):
        yield frame(LONG, call, message[start : start + PART_BYTES])


def opening_frame(call: int, opening: Opening) -> bytes:
    """Return the first frame of a call."""
    return frame(OPEN, call, _encode(opening))


def initial_frame(call: int, metadata: Pairs) -> bytes:
    """Return the frame of initial metadata."""
    return frame(INITIAL, call, _encode(metadata))


def credit_frame(call: int, room: int) -> bytes:
    """Return the frame that makes room for so many bytes."""
    return frame(CREDIT, call, _CREDIT.pack(room))


def ending_frame(call: int, ending: Ending) -> bytes:
    """Return the last frame of a call."""
    try:
        body = _encode(ending)
    except UnicodeEncodeError:
        # A lone surrogate in a text of the handler's own: gRPC sends a question mark too.
        details = ending.details.encode(errors="replace").decode()
        body = _encode(Ending(ending.code, details, (), ending.response, ending.refused))
    return frame(END, call, body)


def frames(batch: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, call and body of each frame. Raises: LinkError at one that is cut off."""
    start, size = 0, len(batch)
    while start < size:
        if size - start < _HEADER.size:
            raise LinkError("a frame without a whole header")
        kind, call, length = _HEADER.unpack_from(batch, start)
        start += _HEADER.size
        if size - start < length:
            raise LinkError("a frame that is cut off")
        yield kind, call, batch[start : start + length]
        start += length


def kind_and_call(one: bytes) -> tuple[int, int]:
    """Return kind and call of a frame that this process made."""
    kind, call, _ = _HEADER.unpack_from(one)
    return kind, call


def read_opening(body: bytes) -> Opening:
    """Parse the body of OPEN. Raises: LinkError."""
    try:
        opening = _opening(body)
        _check(opening.metadata)
        return opening
    except msgspec.DecodeError as error:
        raise LinkError(f"no beginning of a call: {error}") from None


def read_ending(body: bytes) -> Ending:
    """Parse the body of END. Raises: LinkError."""
    try:
        ending = _ending(body)
        _check(ending.trailing)
        return ending
    except msgspec.DecodeError as error:
        raise LinkError(f"no end of a call: {error}") from None


def read_initial(body: bytes) -> Pairs:
    """Parse the body of INITIAL. Raises: LinkError."""
    try:
        metadata: Pairs = _initial(body)
        _check(metadata)
        return metadata
    except msgspec.DecodeError as error:
        raise LinkError(f"no metadata: {error}") from None


def read_credit(body: bytes) -> int:
    """Parse the body of CREDIT. Raises: LinkError."""
    if len(body) != _CREDIT.size:
        raise LinkError("no number of bytes")
    room: int = _CREDIT.unpack(body)[0]
    return room


def metadata_bytes(metadata: Pairs) -> int:
    """Return the size of metadata as HTTP/2 counts it: 32 bytes for each entry besides its text."""
    return sum(len(name) + len(value) + 32 for name, value in metadata)


def _check(metadata: Initial) -> None:
    if not all(isinstance(value, (str, bytes)) for _, value in metadata):
        raise msgspec.ValidationError("metadata that is neither text nor bytes")
