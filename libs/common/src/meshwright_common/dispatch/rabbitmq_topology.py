"""What our queues look like in RabbitMQ 3.10 and later, 4.x included.

    task_dispatch          direct   `kind.lane` → queue task_dispatch.<kind>.<lane>
    task_dispatch.retry.N  fanout   → queue task_dispatch.retry.N; expires back into task_dispatch
    task_dispatch.dlx      fanout   → queue task_dispatch.dlq
    agent_status           fanout   → a queue of its own for each subscriber

All queues are quorum queues, and dead-lettering is at least once, which needs reject-publish: with
the default, drop-head, RabbitMQ quietly does it at most once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelPreconditionFailed

from meshwright_common.dispatch.lanes import MAX_RETRIES, Lane
from meshwright_common.dispatch.ports import DELIVERY_LIMIT, QueuesDiffer

Arguments = dict[str, str | int]

MAX_LENGTH: Final = 100_000
DEAD_LETTER_MILLISECONDS: Final = 7 * 24 * 3600 * 1000
DECLARE_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: its name, its arguments, and the exchange and key that lead to it."""

    name: str
    arguments: Arguments
    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Names and properties of everything that dispatch has in RabbitMQ."""

    prefix: str
    kinds: tuple[str, ...]
    max_length: int = MAX_LENGTH

    @property
    def exchange(self) -> str:
        """Exchange that work is published to."""
        return f"{self.prefix}task_dispatch"

    @property
    def dead_letter_exchange(self) -> str:
        """Exchange of what was given up."""
        return f"{self.exchange}.dlx"

    @property
    def dead_letter_queue(self) -> str:
        """Queue of what was given up."""
        return f"{self.exchange}.dlq"

    @property
    def status_exchange(self) -> str:
        """Exchange of what agents say about themselves."""
        return f"{self.prefix}agent_status"

    def retry(self, attempt: int) -> str:
        """Exchange, and queue, in which an item waits for its attempt 1, 2, 3."""
        return f"{self.exchange}.retry.{attempt}"

    def work_queue(self, kind: str, lane: Lane) -> str:
        """Queue of a kind and lane."""
        return f"{self.exchange}.{kind}.{lane.value}"

    def exchanges(self) -> Sequence[tuple[str, ExchangeType]]:
        """Every exchange with its type."""
        return (
            (self.exchange, ExchangeType.DIRECT),
            (self.dead_letter_exchange, ExchangeType.FANOUT),
            (self.status_exchange, ExchangeType.FANOUT),
            *((self.retry(attempt), ExchangeType.FANOUT) for attempt in range(1, MAX_RETRIES + 1)),
        )

    def queues(self) -> Sequence[Queue]:
        """Every queue, in an order in which nothing leads to one that is not there yet."""
        return (
            Queue(
                self.dead_letter_queue,
                {
                    "x-queue-type": "quorum",
                    "x-max-length": self.max_length,
                    "x-message-ttl": DEAD_LETTER_MILLISECONDS,
                },
                self.dead_letter_exchange,
                "",
            ),
            *(
                Queue(
                    self.work_queue(kind, lane),
                    self._safe(self.dead_letter_exchange) | {"x-delivery-limit": DELIVERY_LIMIT},
                    self.exchange,
                    routing_key(kind, lane),
                )
                for kind in self.kinds
                for lane in Lane
            ),
            *(
                Queue(self.retry(attempt), self._safe(self.exchange), self.retry(attempt), "")
                for attempt in range(1, MAX_RETRIES + 1)
            ),
        )

    def _safe(self, dead_letter_exchange: str) -> Arguments:
        return {
            "x-queue-type": "quorum",
            "x-max-length": self.max_length,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": dead_letter_exchange,
            "x-dead-letter-strategy": "at-least-once",
        }


def routing_key(kind: str, lane: Lane) -> str:
    """Return the key of a kind and lane."""
    return f"{kind}.{lane.value}"


async def declare(channel: AbstractChannel, topology: Topology) -> int:
    """Make what is not there yet; return how many items wait in the queues.

    Raises: QueuesDiffer; the driver's error for a lost channel.
    """
    waiting = 0
    try:
        for name, kind in topology.exchanges():
            await channel.declare_exchange(
                name, kind, durable=True, timeout=DECLARE_TIMEOUT_SECONDS
            )
        for wanted in topology.queues():
            queue = await channel.declare_queue(
                wanted.name,
                durable=True,
                arguments=dict(wanted.arguments),
                timeout=DECLARE_TIMEOUT_SECONDS,
            )
            if wanted.exchange != topology.dead_letter_exchange:
                waiting += queue.declaration_result.message_count or 0
            await queue.bind(wanted.exchange, wanted.routing_key, timeout=DECLARE_TIMEOUT_SECONDS)
    except ChannelPreconditionFailed as error:
        raise QueuesDiffer(
            "RabbitMQ has queues of these names with other properties: "
            f"remove them, or set another dispatch.prefix ({error})"
        ) from error
    return waiting
