"""The platform's HTTP API as the commands use it: JSON, streams of events, uploads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode

import aiohttp

from meshwright_cli.endpoint import Endpoint, find_endpoint
from meshwright_cli.exits import CommandError, Exit

CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 60.0
"""A stream says something every 15 s at least."""
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
NO_CONTENT: Final = 204
PAGE_SIZE: Final = 200
"""Rows of a list that are asked for at once: the most that there are."""
JsonObject = dict[str, Any]
T = TypeVar("T")


class ApiError(CommandError):
    """The platform refused or failed. `code` of the problem is in `reason`."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.reason = str(problem.get("code", ""))
        lines = [f"{problem.get('detail') or f'the answer was {status}'} ({self.reason or status})"]
        lines += [f"{one['field']}: {one['message']}" for one in problem.get("errors", ())]
        if status == 401:
            lines.append("give a good key with --key, or MESHWRIGHT_API_KEY")
        super().__init__("\n".join(lines))


class Disconnected(CommandError):
    """The connection broke, or never was."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream: its id (may be empty), its name and its data."""

    event_id: str
    name: str
    data: JsonObject


class Api:
    """A client of one platform; an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        headers = {"authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
        )
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=timeout, read_bufsize=MAX_LINE_BYTES
        )

    async def get(self, path: str) -> JsonObject:
        """Return the JSON at `path`. Raises: ApiError, Disconnected."""
        async with self._call("GET", path) as answer:
            return await _json(answer)

    async def listed(self, path: str, field: str, **filters: str) -> list[JsonObject]:
        """Return all rows of a list, read page by page. `field` holds those of a page; filters
        without a value are left out. Raises: ApiError, Disconnected.
        """
        rows: list[JsonObject] = []
        wanted = {name: value for name, value in filters.items() if value}
        token = ""
        while True:
            query = urlencode({"page_size": PAGE_SIZE, "page_token": token, **wanted})
            page = await self.get(f"{path}?{query}")
            rows += page[field]
            token = page["next_page_token"]
            if not token:
                return rows

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """Send JSON and return the answer's. Raises: ApiError, Disconnected."""
        async with self._call("POST", path, json=body) as answer:
            return await _json(answer)

    async def put(self, path: str, body: JsonObject) -> JsonObject:
        """Store JSON at `path` and return the answer's. Raises: ApiError, Disconnected."""
        async with self._call("PUT", path, json=body) as answer:
            return await _json(answer)

    async def patch(self, path: str, body: JsonObject) -> JsonObject:
        """Change what is at `path` and return it as JSON. Raises: ApiError, Disconnected."""
        async with self._call("PATCH", path, json=body) as answer:
            return await _json(answer)

    async def delete(self, path: str, body: JsonObject | None = None) -> JsonObject:
        """Delete what is at `path`; return the answer's JSON, empty without one.

        Raises: ApiError, Disconnected.
        """
        async with self._call("DELETE", path, json=body) as answer:
            return {} if answer.status == NO_CONTENT else await _json(answer)

    async def upload(self, path: str, form: aiohttp.FormData) -> JsonObject:
        """Send a form and return the answer's JSON. Raises: ApiError, Disconnected."""
        async with self._call("POST", path, data=form) as answer:
            return await _json(answer)

    async def download(self, path: str, file: Path) -> int:
        """Write what is at `path` to a file, whole or not at all; return its size in bytes.

        Raises: ApiError, Disconnected, CommandError when the file cannot be written.
        """
        partial = file.with_name(f".{file.name}.part")
        size = 0
        try:
            async with self._call("GET", path) as answer:
                with partial.open("wb") as writing:
                    async for piece in answer.content.iter_any():
                        size += writing.write(piece)
            partial.replace(file)
        except OSError as error:
            raise CommandError(f"{file} cannot be written ({error.strerror})") from None
        finally:
            partial.unlink(missing_ok=True)
        return size

    async def events(
        self, method: str, path: str, *, body: JsonObject | None = None, last_event_id: str = ""
    ) -> AsyncIterator[ServerEvent]:
        """Yield the events of a stream until the server ends it. Raises: ApiError, Disconnected."""
        headers = {"accept": "text/event-stream"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        async with self._call(method, path, json=body, headers=headers) as answer:
            event_id, name, data = "", "message", ""
            async for raw in answer.content:
                line = raw.decode().rstrip("\r\n")
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if line == "":
                    if data:
                        yield ServerEvent(event_id, name, json.loads(data))
                    event_id, name, data = "", "message", ""
                elif field == "id":
                    event_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data += value

    @asynccontextmanager
    async def _call(
        self, method: str, path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{self.endpoint.url}{path}"
        try:
            async with self._session.request(method, url, **options) as answer:
                if not answer.ok:
                    raise ApiError(answer.status, await _problem(answer))
                yield answer
        except aiohttp.ClientConnectorError as error:
            raise Disconnected(
                f"nothing answers at {self.endpoint.url} ({error.os_error.strerror}): "
                "start it with `meshwright up`",
                Exit.NOT_RUNNING,
            ) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            text = str(error) or "no answer in time"
            raise Disconnected(f"the connection to {self.endpoint.url} broke: {text}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()


def call_api(data: Path, url: str, key: str, call: Callable[[Api], Awaitable[T]]) -> T:
    """Make calls to the platform that the options of a command name; return what comes of them.

    Raises: CommandError when there is none; ApiError; Disconnected.
    """
    endpoint = find_endpoint(data, url, key)

    async def run() -> T:
        async with Api(endpoint) as api:
            return await call(api)

    return asyncio.run(run())


async def _json(answer: aiohttp.ClientResponse) -> JsonObject:
    try:
        content = json.loads(await answer.read())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CommandError(f"{answer.url} does not speak Meshwright's API: is the URL right?")
    return content


async def _problem(answer: aiohttp.ClientResponse) -> JsonObject:
    try:
        content = json.loads(await answer.read())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
