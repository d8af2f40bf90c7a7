"""An answer: its head, and its body as it comes in."""

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from meshwright_model_router.providers.http_client.errors import NotHttp, Truncated

BUFFER_BYTES: Final = 256 * 1024
"""Of a body that nobody reads, this much is held; then the server has to wait."""
NO_TYPE: Final = "application/octet-stream"
"""Content type of an answer that does not tell one."""
_INFLATED_BYTES: Final = 256 * 1024
"""Most that one read gives of a compressed body: a bomb costs no more memory than this."""


class Source(Protocol):
    """What a body comes from."""

    def pause_reading(self) -> None:
        """Take nothing more from the network until `resume_reading`."""
        ...

    def resume_reading(self) -> None:
        """Go on."""
        ...

    def release(self, body: "Body", *, at_its_end: bool) -> None:
        """Nobody reads `body` any more; see `Answer.release`."""
        ...


class Body:
    """A body under way. What arrived is at hand at once; errors come after it."""

    __slots__ = (
        "_ended",
        "_error",
        "_interruption",
        "_loop",
        "_parts",
        "_paused",
        "_size",
        "_source",
        "_waiter",
    )

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: BaseException | None = None
        self._interruption: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def readany(self) -> bytes:
        """Return the bytes at hand, waiting for the first; empty at the end of the body.

        Raises: Truncated, NotHttp, OSError; what `set_exception` was given.
        """
        while self._interruption is None:
            parts = self._parts
            if parts:
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                parts.clear()
                self._size = 0
                if self._paused:
                    self._paused = False
                    self._source.resume_reading()
                return data
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        raise self._interruption

    def set_exception(self, error: BaseException) -> None:
        """End the reading with `error` now, whatever is at hand."""
        self._interruption = error
        self._wake()

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > BUFFER_BYTES and not self._paused:
            self._paused = True
            self._source.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes."""
        self._ended, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class InflatedBody:
    """A body that the server compressed although nobody asked it to."""

    def __init__(self, body: Body, encoding: str) -> None:
        self._body = body
        # 32: gzip and zlib are told apart by their heads.
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS + 32)
        self._encoding = encoding

    async def readany(self) -> bytes:
        """Return some bytes, decompressed; as `Body.readany`."""
        while True:
            data = self._inflate.unconsumed_tail or await self._body.readany()
            if not data:
                if not self._inflate.eof:
                    raise Truncated("the compressed body has no end")
                return b""
            try:
                inflated = self._inflate.decompress(data, _INFLATED_BYTES)
            except zlib.error as error:
                raise NotHttp(f"its body is not {self._encoding}") from error
            if inflated:
                return inflated

    def set_exception(self, error: BaseException) -> None:
        """As `Body.set_exception`."""
        self._body.set_exception(error)


class Answer:
    """The head of an answer, and `content`, its body. `headers` has names in lower case."""

    __slots__ = ("_body", "_headers", "_raw", "_source", "content", "status")

    def __init__(
        self,
        status: int,
        raw_headers: Sequence[tuple[bytes, bytes]],
        body: Body,
        source: Source,
    ) -> None:
        self.status = status
        self._raw = raw_headers
        self._headers: Mapping[str, str] | None = None
        self._body = body
        self._source = source
        self.content: Body | InflatedBody = body
        for name, value in raw_headers:
            if len(name) == 16 and name.lower() == b"content-encoding":
                self.content = _decoded(body, value.decode("latin-1").strip().lower())

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; of a repeated one the first counts."""
        if self._headers is None:
            headers: dict[str, str] = {}
            for name, value in self._raw:
                headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
            self._headers = headers
        return self._headers

    @property
    def content_type(self) -> str:
        """The type without parameters, in lower case."""
        for name, value in self._raw:
            if len(name) == 12 and name.lower() == b"content-type":
                kind = value.partition(b";")[0].decode("latin-1").strip().lower()
                return kind or NO_TYPE
        return NO_TYPE

    def release(self, *, at_its_end: bool = False) -> None:
        """Give the connection back if the body is complete, else close it.

        `at_its_end`: nothing but the end of the body is missing, which may come in a moment.
        """
        self._source.release(self._body, at_its_end=at_its_end)


def _decoded(body: Body, encoding: str) -> Body | InflatedBody:
    if encoding in {"", "identity"}:
        return body
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return InflatedBody(body, encoding)
    body.set_exception(NotHttp(f"its body is compressed with {encoding[:40]!r}"))
    return body
