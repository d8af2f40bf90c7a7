"""What one generation has produced so far."""

from typing import Final

from meshwright_model_router.domain.conversation import ToolCall
from meshwright_model_router.domain.errors import AnswerTooLong
from meshwright_model_router.domain.output import FinishReason, Piece, ToolCallPiece
from meshwright_model_router.domain.tokens import count_text

MAX_ANSWER_CHARACTERS: Final = 4 * 1024 * 1024
"""A provider that sends more is not talking to us any longer."""


class _OpenCall:
    """A tool call being put together."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def complete(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self.arguments))


class Tally:
    """Adds up pieces; cheap per piece, everything else is done at the end."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[int, _OpenCall] = {}
        self._characters = 0
        self._looked_at = 0

    def add(self, piece: Piece) -> None:
        """Count a piece. Raises: AnswerTooLong when it grows beyond its limit."""
        if piece.text:
            self._texts.append(piece.text)
        if piece.reasoning:
            self._texts.append(piece.reasoning)
        self._characters += len(piece.text) + len(piece.reasoning)
        for part in piece.tool_calls:
            self._add_call(part)
        if self._characters > MAX_ANSWER_CHARACTERS:
            raise AnswerTooLong(
                f"The provider's answer is longer than {MAX_ANSWER_CHARACTERS} characters."
            )

    def _add_call(self, part: ToolCallPiece) -> None:
        call = self._calls.setdefault(part.index, _OpenCall())
        call.id = call.id or part.id
        call.name = call.name or part.name
        call.arguments.append(part.arguments)
        self._characters += len(part.arguments)

    def is_beyond(self, tokens: int) -> bool:
        """Return whether more than `tokens` were produced, by our own count.

        Counted only when it can be: no text has more tokens than characters.
        """
        if self._characters - self._looked_at <= tokens:
            return False
        counted = self.tokens()
        if counted > tokens:
            return True
        self._looked_at = self._characters - counted
        return False

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls, put together, in order."""
        return tuple(self._calls[index].complete() for index in sorted(self._calls))

    def tokens(self) -> int:
        """Return our own count of everything produced."""
        calls = self.tool_calls
        names = sum(count_text(call.name) + count_text(call.arguments_json) for call in calls)
        return count_text("".join(self._texts)) + names

    def finish_reason(self, reported: FinishReason) -> FinishReason:
        """Return the reason that fits what was produced: some providers say stop with calls."""
        if self._calls and reported is FinishReason.STOP:
            return FinishReason.TOOL_CALLS
        if not self._calls and reported is FinishReason.TOOL_CALLS:
            return FinishReason.STOP
        return reported
