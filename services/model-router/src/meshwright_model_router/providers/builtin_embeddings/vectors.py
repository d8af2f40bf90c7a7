"""Texts as vectors by hashing what they are made of: deterministic, no model, no training.

A word becomes a sparse vector: a few signed places for its stem, fainter ones for its runs of
characters (so that typing errors, compounds and other inflections stay near) and for its concept
(synonyms, and Chinese beside English). A text is the sum over its words, damped for repetition,
scaled to unit length. Words that every text holds count next to nothing.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Final

from meshwright_model_router.providers.words.analysis import Word, concept, words

DIMENSIONS: Final = 384

_WORD_PLACES: Final = 4
"""Places of a word. More than one, so that a single collision cannot hide it."""
_RUN_WEIGHT: Final = 0.6
_CONCEPT_WEIGHT: Final = 0.6
_PAIR_WEIGHT: Final = 0.35
_COMMON_WEIGHT: Final = 0.15
_SINGLE_WIDE_WEIGHT: Final = 0.4
"""A Chinese character alone says less than a word of two."""
_RUN_LENGTHS: Final = (3, 4)
_MAX_WORD: Final = 48
"""Of longer words (hashes, encoded data) the beginning counts."""
_CACHED_WORDS: Final = 20_000

_Sparse = tuple[tuple[int, float], ...]


def embed(text: str) -> "array[float]":
    """Return the vector of `text`: 384 float32 of unit length. The same text, the same vector."""
    found = [word._replace(text=word.text[:_MAX_WORD]) for word in words(text)]
    values = [0.0] * DIMENSIONS
    for word, count in Counter(found).items():
        _add(values, zip(*_packed(word), strict=True), 1.0 + math.log(count))
    saying = [word.stem for word in found if not (word.common or word.compound)]
    for pair, count in Counter(pairwise(saying)).items():
        _add(values, _places(f"p:{' '.join(pair)}", 2), _PAIR_WEIGHT * (1.0 + math.log(count)))
    length = math.hypot(*values)
    if length < 1e-9:  # nothing but blanks and signs, or words that cancel each other
        _add(values, _places("t:" + text, _WORD_PLACES), 1.0)
        length = math.hypot(*values)
    return array("f", (value / length for value in values))


def _add(values: list[float], sparse: Iterable[tuple[int, float]], weight: float) -> None:
    for place, value in sparse:
        values[place] += weight * value


@lru_cache(maxsize=_CACHED_WORDS)
def _packed(word: Word) -> "tuple[array[int], array[float]]":
    """Return the places and values of a word: a tenth of the memory that tuples would take."""
    sparse = _word_vector(word)
    return array("H", (place for place, _ in sparse)), array("f", (value for _, value in sparse))


def _word_vector(word: Word) -> _Sparse:
    if word.common:
        return _scaled(_places(f"w:{word.text}", 2), _COMMON_WEIGHT)
    stemmed = word.stem
    parts = [*_places(f"w:{stemmed}", _WORD_PLACES), *_runs(word)]
    number = concept(stemmed)
    if number is not None:
        parts += _scaled(_places(f"c:{number}", _WORD_PLACES), _CONCEPT_WEIGHT)
    total: dict[int, float] = {}
    for place, value in parts:
        total[place] = total.get(place, 0.0) + value
    return _scaled(tuple(total.items()), _rarity(word))


def _runs(word: Word) -> _Sparse:
    """Return the word's runs of characters; all together weigh the same, whatever its length."""
    text = word.text
    if word.wide:
        runs = [text[at : at + 2] for at in range(len(text) - 1)] if len(text) > 2 else [*text]
    else:
        marked = f"^{text}$"
        runs = [
            marked[at : at + length]
            for length in _RUN_LENGTHS
            for at in range(len(marked) - length + 1)
        ]
    if not runs:
        return ()
    weight = _RUN_WEIGHT / math.sqrt(len(runs))
    return tuple((place, value * weight) for run in runs for place, value in _places("r:" + run, 1))


def _rarity(word: Word) -> float:
    """Return how much a word is likely to say; without statistics, length stands for rarity."""
    if word.wide:
        return _SINGLE_WIDE_WEIGHT if len(word.text) == 1 else min(1.3, 0.7 + 0.15 * len(word.text))
    if word.text.isdecimal():
        return 0.8
    return min(1.3, 0.5 + 0.08 * len(word.text))


def _scaled(sparse: _Sparse, weight: float) -> _Sparse:
    return tuple((place, value * weight) for place, value in sparse)


def _places(feature: str, count: int) -> _Sparse:
    """Return `count` places, each with a sign, of unit length together."""
    digest = int.from_bytes(blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest())
    size = 1.0 / math.sqrt(count)
    found: list[tuple[int, float]] = []
    for _ in range(count):
        digest, bits = divmod(digest, 1 << 16)
        found.append(((bits >> 1) % DIMENSIONS, size if bits & 1 else -size))
    return tuple(found)
