"""A multipart body as a sequence of parts, read while it arrives."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from meshwright_common.errors import InvalidArgument
from meshwright_gateway.errors import TooManyParts, UnsupportedMediaType

_MAX_HEADERS: Final = 8
_MAX_HEADER_BYTES: Final = 4096
_MAX_PREAMBLE_BYTES: Final = 4096


@dataclass(slots=True)
class PartHead:
    """What a part says of itself. `file_name` is None for plain fields."""

    name: str
    file_name: str | None
    media_type: str


Piece = PartHead | bytes
"""The beginning of a part, or the next bytes of the latest one."""


@dataclass(slots=True)
class _Headers:
    name: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    by_name: dict[bytes, bytes] = field(default_factory=dict)


class MultipartReader:
    """Turns bytes into pieces. It keeps nothing but the headers of the part being read.

    Raises: UnsupportedMediaType when the content type is no multipart form with a boundary.
    """

    def __init__(self, content_type: bytes | None, part_limit: int) -> None:
        kind, options = parse_options_header(content_type or b"")
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise UnsupportedMediaType("send the file as multipart/form-data with a boundary")
        self._part_limit = part_limit
        self._parts = 0
        self._headers = _Headers()
        self._pieces: list[Piece] = []
        self._preamble_bytes = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._head,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
                max_header_count=_MAX_HEADERS,
                max_header_size=_MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise UnsupportedMediaType(f"the boundary is wrong: {error}") from None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield what the next bytes hold. Raises: InvalidArgument, TooManyParts."""
        if not self._parts:
            self._preamble_bytes += len(data)
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise InvalidArgument(f"the multipart body is broken: {error}") from None
        if not self._parts and self._preamble_bytes > _MAX_PREAMBLE_BYTES:
            raise InvalidArgument("the multipart body does not begin with its boundary")
        pieces, self._pieces = self._pieces, []
        yield from pieces

    def finish(self) -> None:
        """Say that no bytes follow. Raises: InvalidArgument when the last boundary is missing."""
        if not self._ended:
            raise InvalidArgument("the multipart body ends before its last boundary")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._part_limit:
            raise TooManyParts(limit_parts=str(self._part_limit))
        self._headers = _Headers()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._headers.name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._headers.value += data[start:end]

    def _header_end(self) -> None:
        headers = self._headers
        headers.by_name[bytes(headers.name).lower()] = bytes(headers.value)
        headers.name.clear()
        headers.value.clear()

    def _head(self) -> None:
        headers = self._headers.by_name
        kind, options = parse_options_header(headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise InvalidArgument("a part has no content-disposition: form-data with a name")
        if headers.get(b"content-transfer-encoding", b"binary").lower() in (
            b"base64",
            b"quoted-printable",
        ):
            raise UnsupportedMediaType("content-transfer-encoding is not taken: send plain bytes")
        file_name = options.get(b"filename")
        self._pieces.append(
            PartHead(
                name=_text(name, "the name of a part"),
                file_name=None if file_name is None else _file_name(file_name),
                media_type=headers.get(b"content-type", b"").decode("latin-1").strip(),
            )
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        self._ended = True


def _file_name(raw: bytes) -> str:
    """Return a file name. RFC 7578 wants it percent-encoded, browsers send it as it is."""
    text = _text(raw, "a file name")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{what} is not UTF-8") from None
