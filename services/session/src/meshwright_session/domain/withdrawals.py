"""Turns that are taken out of their conversation, as if they had never been asked."""

from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_session.domain.acts import Act
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.live_windows import LiveWindows
from meshwright_session.domain.models import Owner
from meshwright_session.domain.windows import SessionKey

ACTION: Final = "turn.withdrawn"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Which turn leaves. `forget`: what was learned of it leaves with it."""

    session_id: str
    turn_id: str
    forget: bool


class WithdrawalStore(Protocol):
    """Removes turns from conversations. One transaction, all of it or nothing."""

    async def withdraw(self, owner: Owner, wanted: Withdrawal, act: Act) -> int:
        """Remove the turn's messages and note that it stores none any more; return how many went.

        Later messages move up. Done before, it changes nothing. Raises: SessionNotFound;
        SessionArchived.
        """
        ...


class Withdrawals:
    """The use case."""

    def __init__(self, store: WithdrawalStore, windows: LiveWindows, archive: Archive) -> None:
        self._store = store
        self._windows = windows
        self._archive = archive

    async def withdraw(self, owner: Owner, wanted: Withdrawal) -> int:
        """Take a turn out of its session; return how many messages went.

        Raises: SessionNotFound.
        """
        act = Act(ACTION, f"turn/{wanted.turn_id}", {"session_id": wanted.session_id})
        removed = await self._archive.awake(
            owner, wanted.session_id, lambda: self._store.withdraw(owner, wanted, act)
        )
        # Their stamps no longer fit; what was withdrawn should not lie there for long, either.
        await self._windows.forget(SessionKey.of(owner, wanted.session_id))
        return removed
