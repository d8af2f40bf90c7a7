"""One text, in pieces, through all the guards that read it."""

from collections.abc import Iterable, Sequence

from meshwright_model_router.domain.guards.guard import Side
from meshwright_model_router.domain.guards.guard_set import ReadyGuard
from meshwright_model_router.domain.guards.stages import Stage
from meshwright_model_router.domain.output import Finding


class Screen:
    """Guards, one after the other: each reads what the one before it lets go on.

    `blocked` is set when one of them ends the text: what was returned until then is all of it.
    """

    def __init__(self, guards: Iterable[ReadyGuard], side: Side, model: str) -> None:
        self._stages: Sequence[Stage] = [one.stage(side, model) for one in guards]
        self.blocked = False

    async def feed(self, text: str) -> str:
        """Take a piece; return what may go on. Raises: GuardUnavailable."""
        return await self._pass(text, ended=False)

    async def finish(self) -> str:
        """Return what is left: the text has ended. Raises: GuardUnavailable."""
        return await self._pass("", ended=True)

    def findings(self) -> tuple[Finding, ...]:
        """Return what all of them found."""
        return tuple(finding for stage in self._stages for finding in stage.findings())

    async def _pass(self, text: str, *, ended: bool) -> str:
        for stage in self._stages:
            passed = await stage.feed(text) if text else ""
            if not stage.blocked and ended:
                passed += await stage.finish()
            text = passed
            if stage.blocked:
                # What it let go on before is the end of the text for those after it.
                self.blocked = ended = True
        return text
