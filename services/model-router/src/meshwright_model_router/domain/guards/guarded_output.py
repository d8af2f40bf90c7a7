"""Guards on what a model answers: held back only as long as it may still become a match."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, TypeAlias

from meshwright_model_router.domain.call import EndAnswer, Generator, ModelCall
from meshwright_model_router.domain.guards.findings import GuardLog, merged
from meshwright_model_router.domain.guards.guard import Side
from meshwright_model_router.domain.guards.guard_set import GuardSet, ModelNamed, ReadyGuard
from meshwright_model_router.domain.guards.screen import Screen
from meshwright_model_router.domain.output import (
    Finding,
    Finished,
    FinishReason,
    GenerationOutput,
    Piece,
    Restarted,
    ToolCallPiece,
)
from meshwright_model_router.domain.tally import Tally

Channel: TypeAlias = str | int
"""A text of an answer: "text", "reasoning", or the arguments of the call of this number."""
_TEXT: Final = "text"
_REASONING: Final = "reasoning"


class GuardedOutput:
    """Redacts, blocks and reports in what `inner` generates, by the guards of the call."""

    def __init__(self, inner: Generator, log: GuardLog, *, named: ModelNamed) -> None:
        self._inner = inner
        self._log = log
        self._named = named

    def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        """Generate as `inner` does; blocked output ends with the reason CONTENT_FILTER.

        Raises besides: GuardUnavailable.
        """
        guards = call.guards
        if guards is None:
            return self._inner.generate(call)
        model = self._named(call.model)
        readers = guards.of(Side.OUTPUT, model)
        if not readers:
            return self._inner.generate(call)
        return self._guarded(call, guards, readers, model)

    async def _guarded(
        self, call: ModelCall, guards: GuardSet, readers: Sequence[ReadyGuard], model: str
    ) -> AsyncGenerator[GenerationOutput, None]:
        answer = _Answer(readers, model)
        voided: list[Finding] = []
        async with aclosing(self._inner.generate(call)) as outputs:
            async for output in outputs:
                if isinstance(output, Piece):
                    for piece in await answer.feed(output):
                        yield piece
                elif isinstance(output, Finished):
                    for piece in await answer.finish():
                        yield piece
                    findings = merged((*voided, *answer.findings()))
                    self._log.told(guards, findings)
                    yield answer.finished(output, findings)
                    return
                else:
                    if isinstance(output, Restarted):
                        voided.extend(answer.findings())
                        answer = _Answer(readers, model)
                    yield output
                if answer.blocked:
                    break
            findings = merged((*voided, *answer.findings()))
            self._log.told(guards, findings)
            finished = await outputs.athrow(EndAnswer())
            assert isinstance(finished, Finished)  # noqa: S101 - the promise of EndAnswer
        yield answer.finished(finished, findings)


class _Answer:
    """The texts of one answer on their way through the guards."""

    def __init__(self, guards: Sequence[ReadyGuard], model: str) -> None:
        self._guards = guards
        self._model = model
        self._screens: dict[Channel, Screen] = {}
        self._calls = Tally()
        self.blocked = False

    async def feed(self, piece: Piece) -> Iterable[Piece]:
        """Return what may go on of a piece, and of what was held."""
        reasoning = await self._pass(_REASONING, piece.reasoning)
        text = await self._pass(_TEXT, piece.text)
        parts: list[ToolCallPiece] = []
        for part in piece.tool_calls:
            if self.blocked:
                break
            arguments = await self._pass(part.index, part.arguments)
            if part.id or part.name or arguments:
                parts.append(replace(part, arguments=arguments))
        if self.blocked:
            # The end of the answer is the end of all its texts.
            passed = self._pieces(text, reasoning, parts)
            return (*passed, *await self.finish())
        return self._pieces(text, reasoning, parts)

    async def finish(self) -> Iterable[Piece]:
        """Return what is left when the answer ends."""
        passed: dict[Channel, str] = {}
        for channel, screen in self._screens.items():
            if not screen.blocked:
                passed[channel] = await screen.finish()
                self.blocked |= screen.blocked
        parts = [
            ToolCallPiece(channel, arguments=arguments)
            for channel, arguments in passed.items()
            if isinstance(channel, int) and arguments
        ]
        return self._pieces(passed.get(_TEXT, ""), passed.get(_REASONING, ""), parts)

    def findings(self) -> list[Finding]:
        """Return what was found in all texts."""
        return [one for screen in self._screens.values() for one in screen.findings()]

    def finished(self, ended: Finished, findings: tuple[Finding, ...]) -> Finished:
        """Return the end as the caller sees it: calls as they went on, or none when blocked."""
        findings = (*ended.findings, *findings)
        if self.blocked:
            return Finished(FinishReason.CONTENT_FILTER, ended.usage, findings=findings)
        calls = [
            replace(call, arguments_json=passed.arguments_json)
            for call, passed in zip(ended.tool_calls, self._calls.tool_calls, strict=True)
        ]
        return replace(ended, tool_calls=tuple(calls), findings=findings)

    async def _pass(self, channel: Channel, text: str) -> str:
        if not text or self.blocked:
            return ""
        screen = self._screens.get(channel)
        if screen is None:
            screen = self._screens[channel] = Screen(self._guards, Side.OUTPUT, self._model)
        passed = await screen.feed(text)
        self.blocked = screen.blocked
        return passed

    def _pieces(
        self, text: str, reasoning: str, parts: Sequence[ToolCallPiece]
    ) -> tuple[Piece, ...]:
        if not (text or reasoning or parts):
            return ()
        piece = Piece(text, reasoning, tuple(parts))
        if parts:
            self._calls.add(Piece(tool_calls=piece.tool_calls))
        return (piece,)
