"""What the domain needs from providers that neither generate nor embed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ranked:
    """How well the document at `index` fits; higher is better, comparable within one answer."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Documents, best first. `tokens`: of query and documents; 0: not told."""

    results: Sequence[Ranked]
    tokens: int = 0


class RerankProvider(Protocol):
    """A deployment's way to its rerank model."""

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int,
        seconds_left: float | None,
    ) -> Ranking:
        """Return the `top_n` documents that fit `query` best, best first; 0: all of them.

        Raises: the PROVIDER_* errors.
        """
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Judgement of one text: the score of each category, in [0, 1]."""

    flagged: bool
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One verdict a text, in order. `tokens`: of all texts; 0: not told."""

    values: Sequence[Verdict]
    tokens: int = 0


class ModerationProvider(Protocol):
    """A deployment's way to its moderation model."""

    async def moderate(
        self, model: str, texts: Sequence[str], *, seconds_left: float | None
    ) -> Verdicts:
        """Judge each text. Raises: the PROVIDER_* errors."""
        ...
