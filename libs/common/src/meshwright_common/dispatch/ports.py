"""What a work queue promises. Delivery is at least once; no order is promised.

Queues hold names of work, never the only copy of it: whoever puts an item keeps it elsewhere and
can put it again. Taking an item twice has to be harmless.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_common.dispatch.lanes import Lane
from meshwright_common.errors import (
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
    invalid,
)
from meshwright_common.ids import parse_id

MAX_ID_CHARACTERS: Final = 200
MAX_BODY_BYTES: Final = 256 * 1024
DELIVERY_LIMIT: Final = 5
"""An item that was delivered more often and never settled may be what kills its takers."""
KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")

EXPIRED: Final = "expired"
"""Reason of a dead letter that waited for longer than it was good for."""
DELIVERY_LIMIT_REASON: Final = "delivery_limit"
"""Reason of a dead letter that was delivered too often without being settled."""


class DispatchUnavailable(Unavailable):
    """The queues cannot be reached, or did not confirm in time: the items may be put again."""


class Unroutable(FailedPrecondition):
    """No queue takes items of this kind."""

    text = "there is no queue for work of kind {kind}"


class QueueFull(ResourceExhausted):
    """The queue holds as much as it may: nothing more is taken for now."""


class QueuesDiffer(FailedPrecondition):
    """Queues of these names exist with other properties than ours: an operator has to decide."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Work by its name: whose it is, which queue it belongs to, how often it failed before.

    `expires_in_seconds` counts from the putting; None: never. It is not told to the taker.
    `trace`: of who put it, as `kept_trace.joined`; "": none.
    """

    tenant_id: str
    item_id: str
    kind: str
    lane: Lane
    attempt: int = 0
    expires_in_seconds: float | None = None
    trace: str = ""


def check_item(item: WorkItem) -> None:
    """Raises: InvalidArgument naming the field."""
    parse_id(item.tenant_id, "tenant_id")
    if not 1 <= len(item.item_id) <= MAX_ID_CHARACTERS or "\0" in item.item_id:
        raise invalid("item_id", f"must be 1 to {MAX_ID_CHARACTERS} characters")
    if not KIND.fullmatch(item.kind):
        raise invalid("kind", "must be 1 to 40 of a-z, 0-9 and _")
    if item.expires_in_seconds is not None and not item.expires_in_seconds >= 0:
        raise invalid("expires_in_seconds", "must not be negative")


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """An item in the hands of one taker, until it is settled. `redelivered`: not for sure the
    first time.
    """

    item: WorkItem
    redelivered: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that was given up. `item` None: the body is none of ours; `body` holds it."""

    item: WorkItem | None
    reason: str
    body: bytes


class Taking(Protocol):
    """One taker's hold on the queues. Settling what was lost meanwhile does nothing: it comes
    again, here or elsewhere.
    """

    async def take(self, most: int) -> Sequence[Delivery]:
        """Wait for work and return 1 to `most` items, lanes by their weights.

        Items that nobody asks for here within a second are left to other takers.
        Waits as long as the queues are away.
        """
        ...

    async def ack(self, deliveries: Collection[Delivery]) -> None:
        """These are done, or stored elsewhere: they do not come again."""
        ...

    async def retry(self, delivery: Delivery, reason: str) -> None:
        """Deliver again after 1, 2, 4 s with one attempt more; after the third: a dead letter."""
        ...

    async def reject(self, delivery: Delivery, reason: str) -> None:
        """Make it a dead letter."""
        ...


class WorkQueue(Protocol):
    """Queues of some kinds of work, three lanes each."""

    @property
    def losses(self) -> int:
        """A number that grows whenever items may have been lost: put everything again then."""
        ...

    async def put(self, items: Sequence[WorkItem]) -> None:
        """Return when the queues have stored all items. Some are stored when it raises.

        Of no items: when the queues can be reached.
        Raises: InvalidArgument; Unroutable; QueueFull; DispatchUnavailable; QueuesDiffer.
        """
        ...

    def taking(self) -> AbstractAsyncContextManager[Taking]:
        """Take work until the block is left; unsettled items go back to the queues."""
        ...

    async def dead_letters(self, most: int) -> Sequence[DeadLetter]:
        """Remove and return up to `most` dead letters, oldest first. Raises: DispatchUnavailable.

        They are kept for 7 days, the newest 100 000.
        """
        ...
