"""The words of a text, Chinese and English: cut, stemmed, without those that every text holds.

The dictionary of Chinese (34 MB) is loaded when the first Chinese text comes, once per process.
"""

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

import snowballstemmer

WIDE: Final = (
    "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U000323af"
)
"""Regular expression ranges of the scripts written without spaces."""

_CACHED_WORDS: Final = 20_000
_PIECE: Final = re.compile(
    f"(?P<wide>[{WIDE}]+)"
    # A word, or words joined the way names of files, hosts, packages and versions are.
    rf"|(?P<word>(?:(?![{WIDE}_])\w)+(?:[-._/:@+](?:(?![{WIDE}_])\w)+)*)"
)
_WIDE: Final = re.compile(f"[{WIDE}]")
_STEMMER: Final = snowballstemmer.stemmer("english")
_PART: Final = re.compile(r"[^-._/:@+]+")


class Word(NamedTuple):
    """A word as it stands in a text, folded. `wide`: of a script without spaces.

    `compound`: a name of several words such as `apt-get`, which follow on their own.
    """

    text: str
    wide: bool = False
    compound: bool = False

    @property
    def common(self) -> bool:
        """True when nearly every text holds it."""
        return self.text in _common()

    @property
    def stem(self) -> str:
        """The word without its inflection; names of several words have none."""
        return self.text if self.compound else stem(self.text)


async def prepare(texts: Iterable[str]) -> None:
    """Load what cutting `texts` needs, off the event loop. Without it, the first cut blocks."""
    if not _dictionary.cache_info().currsize and any(map(_WIDE.search, texts)):
        await asyncio.to_thread(_dictionary)


@cache
def _dictionary() -> Callable[[str], list[str]]:
    # Importing it reads the dictionary: not before there is something to cut.
    import rjieba  # noqa: PLC0415

    return rjieba.cut_for_search


def words(text: str) -> Iterator[Word]:
    """Yield the words of `text` in order."""
    for piece in _PIECE.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if piece["wide"]:
            for word in _dictionary()(piece["wide"]):
                yield Word(word, wide=True)
            continue
        parts = _PART.findall(piece["word"])
        if len(parts) > 1:
            yield Word(piece["word"], compound=True)
        for part in parts:
            yield Word(part)


def terms(text: str) -> list[str]:
    """Return the stems of the words that carry meaning, in order, with repetitions."""
    return [word.stem for word in words(text) if not word.common]


@lru_cache(maxsize=_CACHED_WORDS)
def stem(word: str) -> str:
    """Return the word without its inflection; only English is inflected here."""
    if not word.isascii() or not word.isalpha():
        return word
    return _STEMMER.stemWord(word)


def concept(stemmed: str) -> int | None:
    """Return the number of the concept that a stem belongs to (`concepts.txt`)."""
    return _concepts().get(stemmed)


@cache
def _common() -> frozenset[str]:
    return frozenset(word for line in _lines("common.txt") for word in line.split())


@cache
def _concepts() -> Mapping[str, int]:
    lines = enumerate(_lines("concepts.txt"))
    return {stem(word): number for number, line in lines for word in line.split()}


def _lines(name: str) -> list[str]:
    text = (files(__package__) / name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
