"""Somebody else who judges texts: a service, or the operator's code."""

from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_model_router.domain.guards.guard import Action, Side

_STRENGTH: Final = (Action.REPORT, Action.REDACT, Action.BLOCK)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says. `action` None: nothing is wrong. `text`: what to put there instead."""

    action: Action | None
    category: str = ""
    text: str | None = None


ALLOWED: Final = Verdict(None)


class Judge(Protocol):
    """Judges pieces of texts, each by itself."""

    @property
    def window_characters(self) -> int:
        """Characters of output that are judged at once."""
        ...

    async def judge(self, side: Side, model: str, text: str) -> Verdict:
        """Return the verdict on a piece. Raises: GuardUnavailable when there is none in time."""
        ...


def limited(wanted: Action, most: Action) -> Action:
    """Return what a guard does when its judge wants more than it may."""
    return _STRENGTH[min(_STRENGTH.index(wanted), _STRENGTH.index(most))]
