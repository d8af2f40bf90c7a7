"""The web console: its files, to anybody. What it shows it asks for, with the key of its user."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from meshwright_gateway.errors import RouteNotFound
from meshwright_gateway.http.exchange import COMMON_HEADERS, Exchange
from meshwright_gateway.http.problems import Headers

FOLDER: Final = "console"
"""Where the files lie in this package: plain HTML, CSS and ES modules, served as they are."""
PAGE: Final = "index.html"

_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_HEADERS: Final[Headers] = [
    *COMMON_HEADERS,
    (
        b"content-security-policy",
        # With trusted types, text from a model cannot even by mistake be parsed as HTML.
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        b"require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    # Asked for again each time, and answered with 304 while it is the same.
    (b"cache-control", b"no-cache"),
]


@dataclass(frozen=True, slots=True)
class _File:
    kind: bytes
    content: bytes
    etag: bytes


class ConsoleRoutes:
    """Serves the files of the console. They hold nothing of any tenant, so they need no key."""

    def __init__(self) -> None:
        self._files = _read()

    async def page(self, exchange: Exchange) -> None:
        """Send the page."""
        await _send(exchange, self._files[PAGE])

    async def file(self, exchange: Exchange, name: str) -> None:
        """Send a file that the page uses. Raises: RouteNotFound."""
        # A table of what was there at the start: no name of a request ever becomes a path.
        file = self._files.get(name)
        if file is None or name == PAGE:
            raise RouteNotFound(path=exchange.path)
        await _send(exchange, file)


def _read() -> Mapping[str, _File]:
    files: dict[str, _File] = {}
    for entry in resources.files("meshwright_gateway").joinpath(FOLDER).iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            content = entry.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:32]
            files[entry.name] = _File(kind, content, f'"{digest}"'.encode())
    return files


async def _send(exchange: Exchange, file: _File) -> None:
    headers = [(b"etag", file.etag), *_HEADERS]
    if _has(exchange.headers.get(b"if-none-match", b""), file.etag):
        # Without a length: that of the file is not that of this answer.
        await exchange.start(304, headers)
        await exchange.finish()
    else:
        await exchange.respond(200, file.content, [(b"content-type", file.kind), *headers])


def _has(given: bytes, etag: bytes) -> bool:
    """Return whether `If-None-Match` names the file, by the weak comparison of RFC 9110."""
    tags = [tag.strip().removeprefix(b"W/") for tag in given.split(b",")]
    return etag in tags or b"*" in tags
