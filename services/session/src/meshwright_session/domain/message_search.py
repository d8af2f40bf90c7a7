"""Looking for messages by their words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from meshwright_session.domain import paging
from meshwright_session.domain.models import Owner, StoredMessage
from meshwright_session.domain.paging import Page, PageRequest


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """Words that are all in the messages wanted; of one session, or of all the owner's (None)."""

    text: str
    session_id: str | None = None


class FoundPosition(NamedTuple):
    """Place in what was found, newest first."""

    create_time: datetime
    session_id: str
    sequence: int


class MessageIndex(Protocol):
    """Finds messages of one owner's sessions that are not in the archive."""

    async def search(
        self, owner: Owner, wanted: MessageQuery, after: FoundPosition | None, limit: int
    ) -> Sequence[StoredMessage]:
        """Return up to `limit` messages after a place, newest first; none for no words."""
        ...


class MessageSearch:
    """The use case."""

    def __init__(self, index: MessageIndex) -> None:
        self._index = index

    async def find(
        self, owner: Owner, wanted: MessageQuery, page: PageRequest
    ) -> Page[StoredMessage]:
        """Return a page of the owner's messages that have all the words, newest first."""
        scope = (
            owner.tenant_id, owner.user_id, "search", wanted.session_id or "", wanted.text,
        )  # fmt: skip
        position = paging.decode(scope, page.token, (int, str, int))
        after = None
        if position is not None:
            after = FoundPosition(
                paging.moment(int(position[0])), paging.identifier(position[1]), int(position[2])
            )
        rows = await self._index.search(owner, wanted, after, page.size + 1)
        rows, last = paging.cut(rows, page.size)
        if last is None:
            return Page(rows)
        place = (paging.microseconds(last.create_time), last.session_id, last.sequence)
        return Page(rows, paging.encode(scope, place))
