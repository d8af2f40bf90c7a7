"""A store that can forget: what each service lists for everything that it keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_common import context

RESERVE_SECONDS: Final = 5.0
"""What is left of a call's time when its erasing stops: for looking, and for the answer. What it
did not come to is found by that look, and the caller asks again."""
BATCH: Final = 1000
"""Rows, keys or objects removed at once: few enough not to hold anybody up."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to forget: a user of a tenant, or, without a `user_id`, the whole tenant.

    `keep_documents`: documents that the user uploaded stay, without a word of who did.
    """

    tenant_id: str
    user_id: str = ""
    keep_documents: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a call removed from a store, and what a look after it still finds."""

    store: str
    removed: int
    remaining: int


class StoredData(Protocol):
    """One store of a service: a table, a family of keys, a folder of objects, an index.

    Both calls may be repeated, at any time, by several processes at once.
    """

    @property
    def name(self) -> str:
        """What a receipt calls it, such as "chat.turns" or "redis:turn"."""
        ...

    async def erase(self, subject: Subject) -> int:
        """Remove what there is of the subject, or as much as fits the call; return how many.

        Raises: Unavailable, DeadlineExceeded.
        """
        ...

    async def remaining(self, subject: Subject) -> int:
        """Return how much is there of the subject. Raises: Unavailable, DeadlineExceeded."""
        ...


async def erase_stored(stores: Sequence[StoredData], subject: Subject) -> list[Found]:
    """Empty the stores in their order, then look into each.

    The look comes after all of them, so that a store that another one writes into is seen last.
    Raises: as the stores.
    """
    removed = [await one.erase(subject) for one in stores]
    return [
        Found(one.name, count, await one.remaining(subject))
        for one, count in zip(stores, removed, strict=True)
    ]


async def in_batches(batch: Callable[[], Awaitable[int]]) -> int:
    """Do `batch` until it removes nothing or the call's time is nearly over; return the sum."""
    removed = 0
    while count := await batch():
        removed += count
        if is_nearly_over():
            break
    return removed


def is_nearly_over() -> bool:
    """Return whether the call has no time for more than looking, and for the answer."""
    left = context.remaining_seconds()
    return left is not None and left < RESERVE_SECONDS
