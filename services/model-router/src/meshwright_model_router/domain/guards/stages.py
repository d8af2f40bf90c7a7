"""One guard on one text that comes in pieces.

A stage lets go whatever can no longer change and holds the rest, which is never more than the
guard's window. What leaves it is the same however the text was cut.
"""

import asyncio
from collections import Counter
from typing import Final, Protocol

from meshwright_model_router.domain.guards.guard import Action, Guard, Side
from meshwright_model_router.domain.guards.judging import Judge, limited
from meshwright_model_router.domain.guards.matching import Matcher
from meshwright_model_router.domain.output import Finding

SLICE_CHARACTERS: Final = 16_384
"""Looked through at once: bounds what a scan that has to begin anew repeats."""


class Stage(Protocol):
    """A guard at work. After `blocked` is set it is given no more text."""

    blocked: bool

    async def feed(self, text: str) -> str:
        """Take a piece; return what may go on. Raises: GuardUnavailable."""
        ...

    async def finish(self) -> str:
        """Return what is left: the text has ended. Raises: GuardUnavailable."""
        ...

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found, a category each."""
        ...


class MatcherStage:
    """A guard that looks for spans."""

    def __init__(self, guard: Guard, matcher: Matcher, side: Side) -> None:
        self.blocked = False
        self._guard = guard
        self._matcher = matcher
        self._side = side
        # What is held; before it, after the beginning, one character that has gone on already.
        self._text = ""
        self._start = 0
        self._counts: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Characters that were taken and have not gone on."""
        return len(self._text) - self._start

    async def feed(self, text: str) -> str:
        if len(text) <= SLICE_CHARACTERS:
            self._text += text
            return self._scan(ended=False)
        passed: list[str] = []
        for begin in range(0, len(text), SLICE_CHARACTERS):
            self._text += text[begin : begin + SLICE_CHARACTERS]
            passed.append(self._scan(ended=False))
            if self.blocked:
                break
            # A long prompt takes its time: others are not to wait for all of it.
            await asyncio.sleep(0)
        return "".join(passed)

    async def finish(self) -> str:
        return self._scan(ended=True)

    def findings(self) -> tuple[Finding, ...]:
        return _findings(self._guard.name, self._side, self._guard.action, self._counts)

    def _scan(self, *, ended: bool) -> str:
        text, place = self._text, self._start
        spans, decided = self._matcher.scan(text, place, ended=ended)
        passed: list[str] = []
        for span in spans:
            self._counts[span.category] += 1
            if self._guard.action is Action.REPORT:
                continue
            passed.append(text[place : span.start])
            place = span.end
            if self._guard.action is Action.BLOCK:
                self.blocked = True
                return "".join(passed)
            passed.append(self._guard.replaces(span.category))
        passed.append(text[place:decided])
        if decided:
            self._text, self._start = text[decided - 1 :], 1
        return "".join(passed)


class JudgeStage:
    """A guard that asks somebody: about input as a whole, about output in windows."""

    def __init__(self, guard: Guard, judge: Judge, side: Side, model: str) -> None:
        self.blocked = False
        self._guard = guard
        self._judge = judge
        self._side = side
        self._model = model
        self._text = ""
        self._counts: Counter[tuple[str, Action]] = Counter()

    async def feed(self, text: str) -> str:
        self._text += text
        if self._side is Side.INPUT:
            return ""
        passed: list[str] = []
        window = self._judge.window_characters
        while len(self._text) >= window and not self.blocked:
            asked, self._text = self._text[:window], self._text[window:]
            passed.append(await self._judged(asked))
        return "".join(passed)

    async def finish(self) -> str:
        """Return what is left, judged."""
        asked, self._text = self._text, ""
        return await self._judged(asked) if asked else ""

    def findings(self) -> tuple[Finding, ...]:
        return tuple(
            Finding(self._guard.name, category, self._side.value, action.value, count)
            for (category, action), count in self._counts.items()
        )

    async def _judged(self, text: str) -> str:
        verdict = await self._judge.judge(self._side, self._model, text)
        if verdict.action is None:
            return text
        action = limited(verdict.action, self._guard.action)
        self._counts[verdict.category, action] += 1
        if action is Action.REPORT:
            return text
        if action is Action.BLOCK:
            self.blocked = True
            return ""
        if verdict.action is Action.REDACT and verdict.text is not None:
            return verdict.text
        return self._guard.replaces(verdict.category or self._guard.name)


def _findings(guard: str, side: Side, action: Action, counts: Counter[str]) -> tuple[Finding, ...]:
    return tuple(
        Finding(guard, category, side.value, action.value, count)
        for category, count in counts.items()
    )
