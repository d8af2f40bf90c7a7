"""The documentation: /openapi.json, and a page that works without internet."""

import asyncio
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Final

import orjson

from meshwright_gateway.errors import RouteNotFound
from meshwright_gateway.http.exchange import COMMON_HEADERS, Exchange
from meshwright_gateway.http.problems import JSON_TYPE, Headers

_PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Meshwright API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
_PAGE_HEADERS: Final[Headers] = [
    *COMMON_HEADERS,
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-cache"),
]
_FILES: Final = {
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "favicon-32x32.png": b"image/png",
}
"""Files of the wheel fastapi-swagger, of which no code runs."""


class DocsRoutes:
    """Serves the API's description to anybody: it holds nothing of any tenant."""

    def __init__(self, describe: Callable[[], Mapping[str, object]]) -> None:
        self._describe = describe
        self._document: bytes | None = None

    async def openapi(self, exchange: Exchange) -> None:
        """Send the OpenAPI document, made when it is first asked for: it takes a while."""
        if self._document is None:
            self._document = orjson.dumps(await asyncio.to_thread(self._describe))
        headers = [(b"content-type", JSON_TYPE), *_PAGE_HEADERS]
        await exchange.respond(200, self._document, headers)

    async def page(self, exchange: Exchange) -> None:
        """Send the page."""
        headers = [(b"content-type", b"text/html; charset=utf-8"), *_PAGE_HEADERS]
        await exchange.respond(200, _PAGE, headers)

    async def file(self, exchange: Exchange, name: str) -> None:
        """Send a file that the page uses. Raises: RouteNotFound."""
        if name == "start.js":
            kind, content = _FILES["swagger-ui-bundle.js"], _START
        elif name in _FILES:
            kind = _FILES[name]
            content = resources.files("fastapi_swagger").joinpath("resources", name).read_bytes()
        else:
            raise RouteNotFound(path=exchange.path)
        await exchange.respond(200, content, [(b"content-type", kind), *_PAGE_HEADERS])
