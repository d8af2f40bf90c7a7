"""ModerationProvider without a provider: phrases by category, English and Chinese.

A floor for installations without a moderation model, not a judgement: it knows words, no meaning.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final

from meshwright_model_router.domain.ports_other import Verdict, Verdicts
from meshwright_model_router.domain.tokens import count_text
from meshwright_model_router.providers import words

FLAGGED_FROM: Final = 0.5
STRONG: Final = 0.9
"""Weight of a phrase that says enough by itself."""
WEAK: Final = 0.25
"""Weight of a word that may stand anywhere; three of them are enough."""
COUNTED: Final = 8
"""How often one phrase counts at most."""

_WORD: Final = re.compile(r"\w+")


@dataclass(slots=True)
class _Lists:
    """Phrases by their first word, and those of scripts without spaces."""

    categories: list[str] = field(default_factory=list)
    by_first: dict[str, list[tuple[tuple[str, ...], str, float]]] = field(default_factory=dict)
    wide: list[tuple[str, str, float]] = field(default_factory=list)


class BuiltinModeration:
    """ModerationProvider that looks for phrases."""

    async def moderate(
        self, model: str, texts: Sequence[str], *, seconds_left: float | None
    ) -> Verdicts:
        verdicts: list[Verdict] = []
        for text in texts:
            verdicts.append(judge(text))
            await asyncio.sleep(0)  # a text takes milliseconds: others get their turn
        return Verdicts(verdicts, sum(map(count_text, texts)))


def judge(text: str) -> Verdict:
    """Return the verdict on `text`; the weights of what is found add up like chances."""
    lists = _lists()
    innocent = dict.fromkeys(lists.categories, 1.0)
    for category, weight, count in _found(text.casefold(), lists):
        innocent[category] *= (1.0 - weight) ** min(count, COUNTED)
    scores = {category: round(1.0 - chance, 4) for category, chance in innocent.items()}
    return Verdict(any(score >= FLAGGED_FROM for score in scores.values()), scores)


def _found(text: str, lists: _Lists) -> Iterator[tuple[str, float, int]]:
    said = _WORD.findall(text)
    counts: dict[tuple[str, ...], tuple[str, float, int]] = {}
    for at, word in enumerate(said):
        for phrase, category, weight in lists.by_first.get(word, ()):
            if tuple(said[at : at + len(phrase)]) == phrase:
                _, _, count = counts.get(phrase, (category, weight, 0))
                counts[phrase] = category, weight, count + 1
    yield from counts.values()
    for wide, category, weight in lists.wide:
        if count := text.count(wide):
            yield category, weight, count


@cache
def _lists() -> _Lists:
    lists = _Lists()
    for name, phrases in _lines().items():
        category, weight = name.rstrip("!"), STRONG if name.endswith("!") else WEAK
        if category not in lists.categories:
            lists.categories.append(category)
        for phrase in phrases:
            if phrase.isascii():
                parts = tuple(phrase.split())
                lists.by_first.setdefault(parts[0], []).append((parts, category, weight))
            else:
                lists.wide.append((phrase, category, weight))
    return lists


def _lines() -> Mapping[str, list[str]]:
    text = (files(words) / "moderation.txt").read_text("utf-8")
    lines = (line.partition(":") for line in text.splitlines() if line and line[0] != "#")
    return {name: [one.strip() for one in phrases.split(",")] for name, _, phrases in lines}
