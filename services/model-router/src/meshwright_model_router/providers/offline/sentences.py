"""Sentences of texts as they come out of documents: wrapped lines, bullets, headings, tables."""

import re
from collections.abc import Iterator
from typing import Final

from meshwright_model_router.providers.words.analysis import WIDE

MAX_CHARACTERS: Final = 420
"""Longer sentences are shortened where they are quoted."""
_HEADING_CHARACTERS: Final = 60
_WIDE_HEADING_CHARACTERS: Final = 18
"""Shorter lines are headings, or end before the edge for another reason."""

_BULLET: Final = re.compile(r"\s*(?:[-*•·–▪◦>#$]|\(?\d{1,2}[.)]|\d+(?:\.\d+)+\.?)\s")
_WIDE_CHARACTER: Final = re.compile(f"[{WIDE}\u3000-\u303f\uff00-\uffef]")
_END: Final = re.compile(
    r"[。！？；]+[”’」』）)]*"  # wide stops end a sentence at once
    r"|[.!?]+[\"'”’)\]]*(?=\s+[\"'“(\[]?[A-Z0-9\u00c0-\u024f])"  # narrow ones before a beginning
)
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|no|nos|fig|sec|ch|p|pp|vol|ed|mr|mrs|ms|dr|prof|st|inc|ltd|jr|sr"
    r"|approx|dept|est|eq|ref)|\b[A-Z])\.$",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """Return the sentences of `text` in order, blanks and line ends made single blanks."""
    return [found for block in _blocks(text) for found in _split(block)]


def _blocks(text: str) -> Iterator[str]:
    """Yield runs of lines that belong together: a paragraph, a bullet, a heading."""
    block = ""
    for raw in text.splitlines():
        line = " ".join(raw.split())
        if not line or (block and _begins_anew(block, line)):
            if block:
                yield block
            block = line
        elif block:
            block = _joined(block, line)
        else:
            block = line
    if block:
        yield block


def _begins_anew(block: str, line: str) -> bool:
    if _BULLET.match(line) or block.endswith((":", "：")):
        return True
    if block.endswith((",", ";", "，", "、", "；")):
        return False
    if _WIDE_CHARACTER.match(line):
        return len(block) < _WIDE_HEADING_CHARACTERS
    return len(block) < _HEADING_CHARACTERS and line[0].isupper()


def _joined(block: str, line: str) -> str:
    if _WIDE_CHARACTER.match(block[-1]) and _WIDE_CHARACTER.match(line[0]):
        return block + line
    if block.endswith("-") and len(block) > 1 and block[-2].isalpha() and line[0].islower():
        return block[:-1] + line  # a word divided at the end of its line
    return f"{block} {line}"


def _split(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        candidate = block[start : end.end()]
        if end[0] == "." and _ABBREVIATION.search(candidate):
            continue
        yield candidate.strip()
        start = end.end()
    if rest := block[start:].strip():
        yield rest


def shortened(sentence: str, around: int = 0) -> str:
    """Return at most 420 characters of a sentence, those about position `around`."""
    if len(sentence) <= MAX_CHARACTERS:
        return sentence
    start = max(0, min(around - MAX_CHARACTERS // 3, len(sentence) - MAX_CHARACTERS))
    cut = sentence[start : start + MAX_CHARACTERS]
    if start and (blank := cut.find(" ")) in range(40):
        cut = cut[blank + 1 :]
    if start + MAX_CHARACTERS < len(sentence) and (blank := cut.rfind(" ")) > MAX_CHARACTERS - 40:
        cut = cut[:blank]
    head = "… " if start else ""
    tail = " …" if start + MAX_CHARACTERS < len(sentence) else ""
    return head + cut.strip() + tail
