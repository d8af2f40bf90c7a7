"""Text as it is stored, counted and cut: normal form, size in tokens, sentence ends."""

import re
import unicodedata
from typing import Final

from meshwright_common.text.scripts import WIDE

_NEWLINES: Final = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE: Final = re.compile(
    # C0 and C1 controls but tab and newline, soft hyphen, zero width, bidi and tag characters,
    # byte order mark, non-characters, lone surrogates: nobody sees them, and they break matching,
    # storing (NUL) or hide text from the reader.
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_BLANKS: Final = re.compile(r"[^\S\n]+")
_BLANKS_AROUND_NEWLINE: Final = re.compile(r" ?\n ?")
_MANY_NEWLINES: Final = re.compile(r"\n{3,}")
_TRAILING_BLANKS: Final = re.compile(r"[^\S\n]+(?=\n|$)")

_WIDE_CHARACTER: Final = re.compile(f"[{WIDE}]")
_SENTENCE_END: Final = re.compile(
    r"[。！？；…]+[”’」』）)]*\s*"  # wide stops end a sentence at once
    r"|[.!?;:]+[\"'”’)\]]*\s+"  # narrow ones only before a blank
    r"|\n+"
)

CHARACTERS_PER_TOKEN: Final = 4
"""Latin text: one token of a usual model is about four characters."""


def normalise(text: str, *, keep_blanks: bool = False) -> str:
    """Return `text` in the form in which it is stored, searched and quoted.

    Unicode NFC, newlines as LF, no invisible characters, blanks collapsed, none at the edges.
    `keep_blanks` keeps indentation and runs of blanks (program text).
    """
    text = _NEWLINES.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = unicodedata.normalize("NFC", text)
    if keep_blanks:
        return _TRAILING_BLANKS.sub("", text).strip("\n")
    text = _BLANKS.sub(" ", text)
    text = _BLANKS_AROUND_NEWLINE.sub("\n", text)
    return _MANY_NEWLINES.sub("\n\n", text).strip()


def is_wide(character: str) -> bool:
    """Return whether the character belongs to a script that is written without spaces."""
    return _WIDE_CHARACTER.match(character) is not None


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a model counts: 1 per wide character, 1 per 4 others.

    An estimate is enough: chunks need a size that no usual model cuts off, not an exact one.
    """
    wide = len(_WIDE_CHARACTER.findall(text))
    return wide + -(-(len(text) - wide) // CHARACTERS_PER_TOKEN)


def sentence_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the spans (start, end) of the sentences in `text[start:end]`, without gaps.

    A span includes the blanks after its sentence.
    """
    spans = []
    position = start
    for match in _SENTENCE_END.finditer(text, start, end):
        spans.append((position, match.end()))
        position = match.end()
    if position < end:
        spans.append((position, end))
    return spans
