"""Which sentences of which passages answer a question best."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from meshwright_model_router.providers.offline.passages import Passage
from meshwright_model_router.providers.offline.sentences import (
    MAX_CHARACTERS,
    sentences,
    shortened,
)
from meshwright_model_router.providers.words.analysis import WIDE, concept, stem, terms

MAX_QUOTES: Final = 3
MAX_PASSAGES: Final = 40
MAX_PASSAGE_CHARACTERS: Final = 20_000
"""What is read of a passage: more than any chunk, and a bound for the time on the event loop."""

_ENOUGH: Final = 0.34
"""Share of the question's weight that the best sentence, or its passage, has to cover."""
_CONCEPT_SHARE: Final = 0.6
_FURTHER: Final = 0.85
"""A further sentence has at least this share of the best one's score."""
_SAME: Final = 0.6
_IDEAL_TERMS: Final = 5
_LONG_TERMS: Final = 40
_WINDOW_CHARACTERS: Final = 200

_HOW_MANY: Final = re.compile(
    r"\bhow (?:many|much|long|often|old|far|large|big)\b|\bwhen\b"
    r"|\bwhat (?:year|date|number|size)\b"
    r"|多少|几[个次天年月号位]|何时|什么时候|多[长大久远高]",
    re.IGNORECASE,
)
_WHAT_IS: Final = re.compile(
    r"^\W*(?:what(?:'s| is| are)|who is|define|explain|describe)\b|什么是|是什么|介绍|的定义|何谓",
    re.IGNORECASE,
)
_DEFINES: Final = re.compile(r"\b(?:is|are|means|refers to|stands for|denotes)\b|是|指|即|称为")
_HOW_TO: Final = re.compile(
    r"\bhow (?:do|does|to|can|should|would)\b|如何|怎么|怎样|步骤", re.IGNORECASE
)
_GOES_ON: Final = re.compile(r"[:：]$|\b(?:following|below|like this)\W*$|(?:如下|下列)\W*$")
_WORD: Final = re.compile(r"[^\W_]+")
_WIDE: Final = re.compile(f"[{WIDE}]")
_TABLE_SHARE: Final = 0.2
"""A sentence with more of its words in digits is a row of a table."""
_DIGIT: Final = re.compile(r"\d|[一二三四五六七八九十百千两][个天年月次位元条]")


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence chosen, shortened, with the passage it is from and its place in it."""

    passage: Passage
    position: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The quotes, best passage first. `fits` is False when they are only the nearest there is."""

    quotes: tuple[Quote, ...]
    fits: bool


class _Question:
    """The question's terms and how much each of them says among the passages."""

    def __init__(self, text: str, context: str, documents: Sequence[Counter[str]]) -> None:
        self.text = text
        wanted = dict.fromkeys(terms(text), 1.0)
        for term in terms(context):
            wanted.setdefault(term, 0.4)
        count = len(documents)
        self.weights = {
            term: share * math.log(1 + (count + 1) / (1 + sum(term in one for one in documents)))
            for term, share in wanted.items()
        }
        self.total = sum(self.weights.values()) or 1.0
        self.order = terms(text)
        self.wide = bool(_WIDE.search(text))

    def coverage(self, found: Counter[str]) -> float:
        """Return the share of the question's weight that a text covers, in [0, 1]."""
        concepts = {number for term in found if (number := concept(term)) is not None}
        covered = 0.0
        for term, weight in self.weights.items():
            if term in found:
                covered += weight
            elif concept(term) in concepts:
                covered += weight * _CONCEPT_SHARE
        return covered / self.total

    def pairs(self, found: Sequence[str]) -> float:
        """Return the share of the question's neighbouring words that are neighbours in a text."""
        wanted = set(pairwise(self.order))
        there = wanted & set(pairwise(found))
        return len(there) / len(wanted) if wanted else 0.0

    def part_of(self, sentence: str) -> str:
        """Return a sentence, or of a long one the part with most of the question in it."""
        if len(sentence) <= MAX_CHARACTERS:
            return sentence
        found = [
            (word.start(), weight)
            for word in _WORD.finditer(sentence)
            if (weight := self.weights.get(stem(word[0].casefold()), 0.0))
        ]

        def weight_from(start: int) -> float:
            return sum(one for at, one in found if start <= at < start + _WINDOW_CHARACTERS)

        return shortened(sentence, max((at for at, _ in found), key=weight_from, default=0))


def select(question: str, passages: Sequence[Passage], *, context: str = "") -> Selection:
    """Return up to 3 sentences that answer `question` best, in reading order within a passage.

    `context` is what was asked before; its words count a little. Empty when nothing matches.
    """
    split = [
        (passage, sentences(passage.text[:MAX_PASSAGE_CHARACTERS]))
        for passage in passages[:MAX_PASSAGES]
    ]
    found = [[terms(sentence) for sentence in parts] for _, parts in split]
    asked = _Question(question, context, [Counter(one) for parts in found for one in parts])
    quotes: list[Quote] = []
    best_coverage = 0.0
    for rank, ((passage, parts), part_terms) in enumerate(zip(split, found, strict=True)):
        whole = asked.coverage(Counter(term for one in part_terms for term in one))
        for position, (sentence, own) in enumerate(zip(parts, part_terms, strict=True)):
            coverage = asked.coverage(Counter(own))
            if coverage == 0:
                continue
            score = _score(asked, sentence, own, coverage) + 0.25 * whole + 0.1 / (1 + rank)
            quotes.append(Quote(passage, position, sentence, score))
            best_coverage = max(best_coverage, coverage, 0.6 * whole)
    if not quotes:
        return Selection((), fits=False)
    chosen = [replace(one, text=asked.part_of(one.text)) for one in _chosen(quotes)]
    if _HOW_TO.search(question) or _GOES_ON.search(chosen[0].text):
        chosen = _continued(chosen, split)
    return Selection(tuple(_in_reading_order(chosen)), fits=best_coverage >= _ENOUGH)


def _score(asked: _Question, sentence: str, own: Sequence[str], coverage: float) -> float:
    score = coverage + 0.2 * asked.pairs(own)
    # A heading repeats the question and answers nothing; a table row holds every word there is.
    score *= min(1.0, 0.45 + 0.55 * len(own) / _IDEAL_TERMS)
    if len(own) > _LONG_TERMS:
        score *= 0.7
    numbers = sum(any(sign.isdigit() for sign in word) for word in sentence.split())
    if numbers > _TABLE_SHARE * len(sentence.split()) and len(own) > _IDEAL_TERMS:
        score *= 0.6
    if asked.wide == bool(_WIDE.search(sentence)):
        score += 0.2
    if _HOW_MANY.search(asked.text) and _DIGIT.search(sentence):
        score += 0.15
    if _WHAT_IS.search(asked.text) and _DEFINES.search(sentence):
        head = terms(sentence[:60])[:3]
        score += 0.25 if asked.order and asked.order[-1] in head else 0.05
    return score


def _chosen(quotes: Sequence[Quote]) -> list[Quote]:
    """Return the best quotes, none of which says the same as another."""
    ranked = sorted(quotes, key=lambda quote: -quote.score)
    best = ranked[0]
    chosen = [best]
    for quote in ranked[1:]:
        if len(chosen) == MAX_QUOTES or quote.score < _FURTHER * best.score:
            break
        if all(_overlap(quote.text, other.text) < _SAME for other in chosen):
            chosen.append(quote)
    return chosen


def _continued(
    chosen: Sequence[Quote], split: Sequence[tuple[Passage, Sequence[str]]]
) -> list[Quote]:
    """Return the best quote with what follows it in its passage, then the others."""
    best = chosen[0]
    parts = next(parts for passage, parts in split if passage is best.passage)
    wanted = 2 if _GOES_ON.search(best.text) else 1
    following = [
        Quote(best.passage, position, shortened(parts[position]), 0.0)
        for position in range(best.position + 1, min(best.position + 1 + wanted, len(parts)))
    ]
    taken = {(id(quote.passage), quote.position) for quote in following}
    others = [quote for quote in chosen[1:] if (id(quote.passage), quote.position) not in taken]
    return [best, *following, *others][: MAX_QUOTES + 1]


def _in_reading_order(chosen: Sequence[Quote]) -> list[Quote]:
    passages = list(dict.fromkeys(id(quote.passage) for quote in chosen))
    return sorted(chosen, key=lambda quote: (passages.index(id(quote.passage)), quote.position))


def _overlap(first: str, second: str) -> float:
    one, other = set(terms(first)), set(terms(second))
    return len(one & other) / (min(len(one), len(other)) or 1)
