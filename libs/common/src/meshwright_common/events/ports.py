"""What an event log is to those who read it and to those who feed it, whatever the engine.

Every effect of an event lives in PostgreSQL: a batch comes with the connection, in an open
transaction, in which the effects and the note that the event was seen commit together. How the log
remembers the reader's position is its own affair, and never earlier than that commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from meshwright_common.events.topics import Topic
from meshwright_common.storage.postgres import Connection


class Key(NamedTuple):
    """What orders events within a topic."""

    tenant_id: str
    partition_key: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event as the log gave it, not yet decoded. `origin` says where it stood in the log.

    A log that others can write to gives records that are no events of ours, too: `defect` then says
    why, and the rest is what could be made out, so that it can be kept as a dead letter.
    """

    event_id: str
    tenant_id: str
    partition_key: str
    headers: Mapping[str, str]
    body: bytes
    origin: str
    defect: str = ""

    @property
    def key(self) -> Key:
        return Key(self.tenant_id, self.partition_key)


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries in log order, possibly none, and the transaction for their effects.

    `more` says that the log holds more that can be had at once.
    """

    connection: Connection
    deliveries: Sequence[Delivery]
    more: bool


class Subscription(Protocol):
    """One consumer's reading of one topic, or of its share of the topic's keys."""

    def batch(self, most: int) -> AbstractAsyncContextManager[Batch | None]:
        """Give up to `most` next deliveries; None when another process is at work on them.

        Leaving the block normally commits the effects, then moves the position behind the batch.
        Leaving it by an exception, or dying, moves nothing: the same deliveries come again.
        Raises: Unavailable when the log or PostgreSQL is away.
        """
        ...

    async def wait(self, seconds: float) -> None:
        """Return when there may be something new, at the latest after `seconds`."""
        ...

    async def lag(self) -> int:
        """Return how many events lie before this reader in the log. Raises: Unavailable."""
        ...


class EventLog(Protocol):
    """Where consumers read events."""

    def subscribe(
        self, consumer: str, topics: Sequence[Topic]
    ) -> AbstractAsyncContextManager[Mapping[Topic, Subscription]]:
        """Join the readers named `consumer`, each of whose events one of them handles.

        A name seen for the first time reads from the log's beginning.
        """
        ...


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event on its way from the outbox to a broker; `topic` is its name there."""

    topic: str
    delivery: Delivery


class EventPublisher(Protocol):
    """A broker that takes events from the outbox."""

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        """Return when the broker has stored all of `events`, in order per topic and key.

        After an error some may have been stored, but none before all that stand ahead of it with
        the same topic and key: they are published again, from the first, and consumers drop what
        they have seen. Raises: Unavailable, within some seconds.
        """
        ...
