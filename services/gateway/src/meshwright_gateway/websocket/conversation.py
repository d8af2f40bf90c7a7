"""One conversation of a socket: what it follows, how far it came, what its client has seen."""

import asyncio
from collections import deque
from typing import Literal

from meshwright_gateway.errors import misshapen

Subject = Literal["turn_id", "task_id", "after_id"]


class Conversation:
    """What one `id` stands for, from its first message to its end.

    With a `window`, so many events at most are sent that the client has not acknowledged.
    """

    def __init__(self, conversation_id: str, window: int | None) -> None:
        self.id = conversation_id
        self.work: asyncio.Task[None] | None = None
        self.subject: Subject = "turn_id"
        self.subject_id = ""
        self._window = window
        self._sent = 0
        self._acknowledged: int | None = None
        self._unseen: deque[int] = deque()
        self._room = asyncio.Event()

    def follows(self, subject: Subject, subject_id: str, after: int) -> None:
        """Say what can be resumed, and after which event."""
        self.subject, self.subject_id, self._sent = subject, subject_id, after

    def again(self) -> dict[str, object] | None:
        """Return the message that goes on elsewhere, after what was acknowledged or else sent.

        None: nothing is known yet that could be followed.
        """
        if not self.subject_id:
            return None
        named: dict[str, object] = {"id": self.id, self.subject: self.subject_id}
        if self.subject == "after_id":
            return {"type": "notifications"} | named
        after = self._sent if self._acknowledged is None else self._acknowledged
        return {"type": "resume"} | named | {"after": after}

    async def has_room(self) -> None:
        """Wait until another event may be sent."""
        while self._window is not None and len(self._unseen) >= self._window:
            self._room.clear()
            await self._room.wait()

    def sent(self, sequence: int) -> None:
        """An event has left."""
        self._sent = sequence
        if self._window is not None:
            self._unseen.append(sequence)

    def acknowledge(self, sequence: int) -> None:
        """All up to an event has arrived. Raises: ShapeRefused when it was not sent."""
        if sequence > self._sent:
            raise misshapen("sequence", f"was not sent yet: the last one was {self._sent}")
        self._acknowledged = max(sequence, self._acknowledged or 0)
        while self._unseen and self._unseen[0] <= sequence:
            self._unseen.popleft()
        self._room.set()
