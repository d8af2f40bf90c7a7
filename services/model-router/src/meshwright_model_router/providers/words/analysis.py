"""The words of a text, Chinese and English: cut, stemmed, without those that every text holds."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

import rjieba
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
_PART: Final = re.compile(r"[^-._/:@+]+")
_COMMON: Final = frozenset(
    "a about after all also am an and any are as at be been before being but by can cannot could "
    "did do does doing done for from had has have having he her here his how i if in into is it "
    "its itself just may me might more most must my no nor not of on only or other our out over "
    "please s shall she should so some such t than that the their them then there these they this "
    "those through to too under up upon us use used using very via was we were what when where "
    "whether which while who whom whose why will with within without would you your tell explain "
    "的 了 是 在 我 有 和 就 不 人 都 一 一个 也 很 到 要 去 你 会 着 没有 好 这 那 它 他 她 们 吗 呢 吧 啊 把 被 让 给 从 对 "
    "与 及 或 但 而 之 以 为 于 其 中 上 下 个 怎么 怎么办 怎样 如何 什么 哪些 哪个 哪里 为什么 多少 请问 请 可以 能 能够 能否 是否 "
    "我们 你们 他们 应该 需要 怎 么 何 这个 那个 以及 并 并且 等 时 后 前 里 将 还 又 再 使用 用 天 介绍 告诉 一下 说明 "
    "有 几 谁 谁的 哪 年".split()
)


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
        return self.text in _COMMON


def words(text: str) -> Iterator[Word]:
    """Yield the words of `text` in order."""
    for piece in _PIECE.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if piece["wide"]:
            for word in rjieba.cut_for_search(piece["wide"]):
                yield Word(word, wide=True)
            continue
        parts = _PART.findall(piece["word"])
        if len(parts) > 1:
            yield Word(piece["word"], compound=True)
        for part in parts:
            yield Word(part)


def terms(text: str) -> list[str]:
    """Return the stems of the words that carry meaning, in order, with repetitions."""
    return [word.text if word.compound else stem(word.text) for word in words(text) if not word.common]


@lru_cache(maxsize=_CACHED_WORDS)
def stem(word: str) -> str:
    """Return the word without its inflection; only English is inflected here."""
    if not word.isascii() or not word.isalpha():
        return word
    return _stemmer().stemWord(word)


def concept(stemmed: str) -> int | None:
    """Return the number of the concept that a stem belongs to (`concepts.txt`)."""
    return _concepts().get(stemmed)


@cache
def _stemmer() -> snowballstemmer.english_stemmer.EnglishStemmer:
    return snowballstemmer.stemmer("english")


@cache
def _concepts() -> Mapping[str, int]:
    text = (files(__package__) / "concepts.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {stem(word): number for number, line in enumerate(lines) for word in line.split()}
