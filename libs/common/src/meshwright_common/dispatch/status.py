"""What agent instances say about themselves, for everybody who listens at the moment.

A status is worth something while it is fresh: nothing is kept, and who comes later hears the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, fields
from typing import Final, Protocol

import orjson

from meshwright_common.errors import InvalidArgument, Unavailable, invalid
from meshwright_common.storage.listening import listen
from meshwright_common.storage.postgres import Database
from meshwright_common.telemetry.logging import get_logger

CHANNEL: Final = "meshwright_agent_status"
STATUSES: Final = frozenset({"online", "draining", "unknown", "offline"})
MAX_NAME_CHARACTERS: Final = 200
MAX_WAITING: Final = 1000
"""Statuses that wait for a slow listener; older ones are dropped."""

SUBSCRIBE_SECONDS: Final = 5.0

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """How an instance does, as events/v1/agent_status.proto describes it."""

    agent_instance_id: str
    agent: str
    status: str
    weight: int
    cpu_free: float
    memory_free: float
    pending_tasks: int
    error_rate: float


class StatusMalformed(Exception):
    """Bytes are no status of ours; the text says what is wrong."""


class StatusBoard(Protocol):
    """Where statuses are told to all who listen."""

    async def publish(self, status: AgentStatus) -> None:
        """Tell everybody who listens now. Raises: InvalidArgument; Unavailable."""
        ...

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[AgentStatus]]:
        """Hear what is told from now on; interruptions are silent gaps. Raises: Unavailable."""
        ...


def check_status(status: AgentStatus) -> None:
    """Raises: InvalidArgument naming the field."""
    for name in ("agent_instance_id", "agent"):
        if not 1 <= len(getattr(status, name)) <= MAX_NAME_CHARACTERS:
            raise invalid(name, f"must be 1 to {MAX_NAME_CHARACTERS} characters")
    if status.status not in STATUSES:
        raise invalid("status", f"must be one of {', '.join(sorted(STATUSES))}")
    if not 1 <= status.weight <= 100:
        raise invalid("weight", "must be 1 to 100")
    for name in ("cpu_free", "memory_free", "error_rate"):
        if not 0 <= getattr(status, name) <= 1:
            raise invalid(name, "must be 0 to 1")
    if status.pending_tasks < 0:
        raise invalid("pending_tasks", "must not be negative")


def encode_status(status: AgentStatus) -> bytes:
    """Return a status as JSON. Raises: InvalidArgument naming the field."""
    check_status(status)
    return orjson.dumps(asdict(status))


def decode_status(body: bytes | str) -> AgentStatus:
    """Return the status of a body; fields of later versions are ignored. Raises: StatusMalformed"""
    try:
        content = orjson.loads(body)
        status = AgentStatus(**{field.name: content[field.name] for field in fields(AgentStatus)})
        check_status(status)
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise StatusMalformed(f"no status: {error}") from None
    except InvalidArgument as error:
        raise StatusMalformed(error.message) from None
    return status


class Inbox:
    """Statuses that wait for one listener."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[AgentStatus] = asyncio.Queue(MAX_WAITING)

    def receive(self, body: bytes | str) -> None:
        """Take in a status; what is none is dropped, and the oldest one when too many wait."""
        try:
            status = decode_status(body)
        except StatusMalformed as error:
            logger.warning("agent_status_malformed", error=str(error))
            return
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(status)

    async def statuses(self) -> AsyncIterator[AgentStatus]:
        """Yield what comes, for ever."""
        while True:
            yield await self._waiting.get()


class EmbeddedStatusBoard:
    """Statuses by NOTIFY of the service's own PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, status: AgentStatus) -> None:
        body = encode_status(status).decode()
        async with self._database.connection() as connection:
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, body)

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[AgentStatus]]:
        inbox, listening = Inbox(), asyncio.Event()
        # house: naked-task: ended and awaited below; a group would wrap the block's errors
        hearing = asyncio.create_task(
            listen(self._database, CHANNEL, inbox.receive, began=listening.set)
        )
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                await listening.wait()
            yield inbox.statuses()
        except TimeoutError:
            if listening.is_set():
                raise
            raise Unavailable("agent statuses cannot be heard now") from None
        finally:
            hearing.cancel()
            await asyncio.wait({hearing})
