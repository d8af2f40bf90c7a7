"""A whole answer, as it is kept and told again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshwright_model_router.domain.conversation import ToolCall
from meshwright_model_router.domain.output import (
    CacheStatus,
    Finding,
    Finished,
    FinishReason,
    GenerationOutput,
    Piece,
    Restarted,
    Started,
    TokenUsage,
)

PIECE_CHARACTERS: Final = 256
"""Pieces are told again in no smaller ones: a hit has no reason to trickle."""
_WHOLE: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that ended by itself. `made_at`: seconds since 1970."""

    model: str
    deployment: str
    pieces: tuple[Piece, ...]
    finish_reason: FinishReason
    tool_calls: tuple[ToolCall, ...]
    findings: tuple[Finding, ...]
    made_at: float

    def outputs(self, status: CacheStatus, now: float) -> Iterator[GenerationOutput]:
        """Yield the answer again, in the order in which it came; it consumes nothing."""
        age = max(0.0, now - self.made_at)
        yield Started(self.model, self.deployment, status, age)
        yield from self.pieces
        yield Finished(self.finish_reason, TokenUsage(), self.tool_calls, self.findings)


def stored_answer(outputs: Sequence[GenerationOutput], now: float) -> StoredAnswer | None:
    """Return what is to be kept of a generation; None of one that was cut, filtered or broken."""
    started, finished = outputs[0], outputs[-1]
    if not isinstance(started, Started) or not isinstance(finished, Finished):
        return None
    if finished.finish_reason not in _WHOLE:
        return None
    if any(isinstance(output, Restarted) for output in outputs):
        return None
    pieces = [output for output in outputs if isinstance(output, Piece)]
    return StoredAnswer(
        model=started.model,
        deployment=started.deployment,
        pieces=tuple(_gathered(pieces)),
        finish_reason=finished.finish_reason,
        tool_calls=finished.tool_calls,
        findings=tuple(one for one in finished.findings if one.side == "output"),
        made_at=now,
    )


def _gathered(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Yield the pieces, small ones that bring the same put together."""
    gathered = Piece()
    for piece in pieces:
        same = bool(piece.text) == bool(gathered.text) and bool(piece.reasoning) == bool(
            gathered.reasoning
        )
        size = len(gathered.text) + len(gathered.reasoning)
        if piece.tool_calls or gathered.tool_calls or not same or size >= PIECE_CHARACTERS:
            if gathered != Piece():
                yield gathered
            gathered = Piece(piece.text, piece.reasoning, piece.tool_calls)
        else:
            gathered = Piece(gathered.text + piece.text, gathered.reasoning + piece.reasoning)
    if gathered != Piece():
        yield gathered
