"""Having turns summarised, once enough of them wait for it."""

import asyncio
from typing import Final

import structlog

from meshwright_chat.domain.models import Turn
from meshwright_chat.domain.ports import Agents, Sessions
from meshwright_common.context import principal
from meshwright_common.errors import ServiceError

logger = structlog.get_logger(__name__)

ASK_SECONDS: Final = 2.0
NEEDED: Final = ("agent:execute", "memory:read", "memory:write")
"""What the task's owner has to hold: whoever may not remember is not summarised."""


class Summaries:
    """Asks for summaries. What is not asked for now is when the session's next turn ends."""

    def __init__(self, sessions: Sessions, agents: Agents) -> None:
        self._sessions = sessions
        self._agents = agents

    async def ask(self, turn: Turn) -> None:
        """Ask for a summary of the session's turns that are due. Raises nothing."""
        caller = principal()
        if not all(caller.has(permission) for permission in NEEDED):
            return
        try:
            async with asyncio.timeout(ASK_SECONDS):
                # What is due begins behind it: the same for all turns until it is summarised.
                after = (await self._sessions.find(turn.session_id)).summarised_sequence
                await self._agents.summarise(turn, f"summary-{turn.session_id}-{after}")
        except (ServiceError, TimeoutError) as error:
            reason = error.reason if isinstance(error, ServiceError) else "DEADLINE_EXCEEDED"
            logger.warning("summary_not_asked_for", turn_id=turn.turn_id, reason=reason)
