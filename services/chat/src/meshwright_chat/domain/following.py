"""Following a turn from any position, from whichever process runs it, or from what is stored."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, TypeAlias

from meshwright_chat.domain.errors import CursorExpired
from meshwright_chat.domain.live_turn import LiveTurn
from meshwright_chat.domain.models import Entry, Turn, TurnState
from meshwright_chat.domain.ports import Journal, Turns
from meshwright_chat.domain.retelling import retell, retell_waiting
from meshwright_common.errors import Unavailable

READ_WAIT_SECONDS: Final = 2.0
"""How long a reader of the journal waits before it looks at the stored turn again."""

WAITING_READS: Final = 5
"""A turn that waits for a person is looked at only after so many reads."""

Noted: TypeAlias = dict[str, list[Turn]] | None


class TurnReaders:
    """Serves readers. `live` are the turns that run in this process, by id."""

    def __init__(self, turns: Turns, journal: Journal, live: Mapping[str, LiveTurn]) -> None:
        self._turns = turns
        self._journal = journal
        self._live = live
        self._queued: dict[str, list[Turn]] = {}
        self._waiting: dict[str, list[Turn]] = {}

    @property
    def of_queued(self) -> bool:
        """Whether somebody here watches a turn that has not begun."""
        return bool(self._queued)

    @property
    def waiting(self) -> Sequence[Turn]:
        """Turns that wait for a person, and that somebody here watches."""
        return [turns[-1] for turns in self._waiting.values()]

    async def follow(self, turn: Turn, after_sequence: int = 0) -> AsyncIterator[Entry]:
        """Yield the events of a turn that was just read, after `after_sequence`, to its last.

        Raises: CursorExpired when the turn has ended before that position.
        """
        position = after_sequence
        if turn.state is TurnState.WAITING:
            for entry in await self._told_before(turn, position):
                position = entry.sequence
                yield entry
        async for entry in self._follow(turn, position):
            yield entry

    async def _follow(self, turn: Turn, position: int) -> AsyncIterator[Entry]:
        noted: Noted = None
        silences = 0
        try:
            while True:
                live = self._live.get(turn.turn_id)
                if live is not None and position + 1 >= live.first_sequence:
                    async for entry in live.follow(position):
                        position = entry.sequence
                        yield entry
                        if entry.is_last:
                            return
                    await asyncio.sleep(0)
                    continue
                noted = self._note(turn, noted)
                entries = await self._read(turn, position)
                for entry in entries:
                    position = entry.sequence
                    yield entry
                    if entry.is_last:
                        return
                silences = 0 if entries else silences + 1
                if entries or (turn.state is TurnState.WAITING and silences % WAITING_READS):
                    continue
                turn = await self._turns.find(turn.tenant_id, turn.turn_id)
                async for entry in self._stored(turn, position):
                    position = entry.sequence
                    yield entry
                if turn.state.is_final:
                    return
        finally:
            self._forget(turn.turn_id, noted)

    async def _told_before(self, turn: Turn, position: int) -> Sequence[Entry]:
        """Return what a waiting turn has told: from the journal, or what is stored of it."""
        told = await self._read(turn, position, wait_seconds=0)
        return told or list(retell_waiting(turn, position))

    async def _stored(self, turn: Turn, position: int) -> AsyncIterator[Entry]:
        """Yield what the stored turn says that its journal did not."""
        if turn.state.is_final:
            async for entry in self._after_the_end(turn, position):
                yield entry
        elif turn.state is TurnState.WAITING:
            for entry in retell_waiting(turn, position):
                yield entry

    def _note(self, turn: Turn, noted: Noted) -> Noted:
        """Note a reader of a turn that waits; return where it is noted."""
        of_state = {TurnState.QUEUED: self._queued, TurnState.WAITING: self._waiting}
        found = of_state.get(turn.state)
        if found is not noted:
            self._forget(turn.turn_id, noted)
            if found is not None:
                found.setdefault(turn.turn_id, []).append(turn)
        return found

    def _forget(self, turn_id: str, noted: Noted) -> None:
        if noted is None:
            return
        noted[turn_id].pop()
        if not noted[turn_id]:
            del noted[turn_id]

    async def _after_the_end(self, turn: Turn, position: int) -> AsyncIterator[Entry]:
        # The last event may have been journaled between the read and the look at the turn.
        entries = await self._read(turn, position, wait_seconds=0)
        if entries:
            for entry in entries:
                yield entry
            if entries[-1].is_last:
                return
            position = entries[-1].sequence
        if turn.last_sequence and position >= turn.last_sequence:
            if position > turn.last_sequence:
                raise CursorExpired(after_sequence=str(position))
            return
        for entry in retell(turn, position):
            yield entry

    async def _read(
        self, turn: Turn, position: int, *, wait_seconds: float = READ_WAIT_SECONDS
    ) -> Sequence[Entry]:
        if turn.state.is_final:
            wait_seconds = 0
        try:
            return await self._journal.read(
                turn.tenant_id, turn.turn_id, after_sequence=position, wait_seconds=wait_seconds
            )
        except Unavailable:
            await asyncio.sleep(min(wait_seconds, 0.5))
            return []
