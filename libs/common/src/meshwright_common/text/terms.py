"""Words of a text for full-text search: Chinese by jieba's dictionary, English by its stems.

The same function cuts what is stored and what is asked, so what was indexed is what is looked for.
The dictionary (34 MB) is loaded when the first Chinese text comes, once per process.
"""

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Final

import snowballstemmer

from meshwright_common.text.scripts import WIDE

MAX_TERM_CHARACTERS: Final = 64
"""Longer words (hashes, encoded data) are no words: nobody types them."""

_CACHED_STEMS: Final = 20_000
_PIECE: Final = re.compile(
    f"(?P<wide>[{WIDE}]+)"
    # A word, or words joined the way names of files, hosts, packages and versions are.
    rf"|(?P<word>(?:(?![{WIDE}_])\w)+(?:[-._/:@+](?:(?![{WIDE}_])\w)+)*)"
)
_WIDE: Final = re.compile(f"[{WIDE}]")
_PART: Final = re.compile(r"[^-._/:@+]+")
_ACCENTED: Final = re.compile("[\u00e0-\u024f\u1e00-\u1eff]")
_STEMMER: Final = snowballstemmer.stemmer("english")


def terms(text: str) -> Iterator[tuple[int, str]]:
    """Yield position (from 1) and term for every word of `text`, in order.

    A compound such as `apt-get` yields itself and, at the same position and on, its parts.
    """
    position = 0
    for piece in _PIECE.finditer(_folded(text)):
        if piece["wide"]:
            for word in _dictionary()(piece["wide"]):
                position += 1
                yield position, word
            continue
        word = piece["word"]
        parts = _PART.findall(word)
        if len(parts) > 1 and len(word) <= MAX_TERM_CHARACTERS:
            yield position + 1, word
        for part in parts:
            position += 1
            if len(part) <= MAX_TERM_CHARACTERS:
                yield position, _stem(part)


async def prepare(text: str) -> None:
    """Load what cutting `text` needs, off the event loop. Without it, the first cut blocks."""
    if _WIDE.search(text) and not _dictionary.cache_info().currsize:
        await asyncio.to_thread(_dictionary)


def _folded(text: str) -> str:
    """Return `text` without differences that people do not type: width, case, Latin accents."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if text.isascii():
        return text
    return _ACCENTED.sub(lambda found: unicodedata.normalize("NFD", found[0])[0], text)


@cache
def _dictionary() -> Callable[[str], list[str]]:
    # Importing it reads the dictionary: not before there is something to cut.
    import rjieba  # noqa: PLC0415

    return rjieba.cut_for_search


@lru_cache(maxsize=_CACHED_STEMS)
def _stem(word: str) -> str:
    if not word.isascii() or not word.isalpha():
        return word
    return _STEMMER.stemWord(word)
