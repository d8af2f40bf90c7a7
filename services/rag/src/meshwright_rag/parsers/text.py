"""Plain text: paragraphs are divided by empty lines."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Final

from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParsedDocument, ParseLimits
from meshwright_rag.domain.text import is_wide
from meshwright_rag.parsers.charset import decode

_PARAGRAPHS: Final = re.compile(r"\n[^\S\n]*\n\s*|\f")
_WRAPPED_AT: Final = 60
"""Lines at least this long (columns) that fill their paragraph were wrapped by a program."""

_UNDERLINE: Final = re.compile(r"(.+)\n(={3,}|-{3,}|~{3,})\s*\Z")
_UNDERLINE_LEVELS: Final = {"=": 1, "-": 2, "~": 3}
_CHAPTER: Final = re.compile(
    r"(?:第\s*[一二三四五六七八九十百\d]+\s*章|Chapter\s+\w+|Appendix\s+\w)\b"
)
_SECTION: Final = re.compile(r"\d{1,2}((?:\.\d{1,3}){1,4})\.?\s+\S")
_RULE: Final = re.compile(r"[-+=|_*~.\s]*")
_BOXED: Final = re.compile(r"[|+]")
_MAX_HEADING: Final = 80


def parse_text(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Return the text by paragraphs. Raises: DocumentEncoding, DocumentEmpty, DocumentLimit."""
    text, charset = decode(path.read_bytes())
    builder = DocumentBuilder(limits)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for paragraph in _PARAGRAPHS.split(text):
        _add(builder, paragraph)
    return builder.build(charset=charset)


def _add(builder: DocumentBuilder, paragraph: str) -> None:
    stripped = paragraph.strip()
    underlined = _UNDERLINE.match(stripped)
    if underlined and "\n" not in underlined[1]:
        builder.heading(_UNDERLINE_LEVELS[underlined[2][0]], underlined[1])
    elif level := _numbered_level(stripped):
        builder.heading(level, stripped)
    else:
        builder.add(BlockKind.PARAGRAPH, _unwrapped(paragraph))


def _numbered_level(line: str) -> int:
    """Return the level of a numbered heading, 0 for anything else.

    A single number ("3. Open the lid") is as often a step of a list, so it does not count.
    """
    if "\n" in line or len(line) > _MAX_HEADING or line[-1:] in ".。,，;；:：":
        return 0
    if _CHAPTER.match(line):
        return 1
    section = _SECTION.match(line)
    return section[1].count(".") + 1 if section else 0


def _unwrapped(paragraph: str) -> str:
    """Join lines that a program wrapped; keep those that the author broke."""
    lines = [line.strip() for line in paragraph.strip("\n").split("\n")]
    if all(_BOXED.match(line) for line in lines):
        return "\n".join(line for line in lines if not _RULE.fullmatch(line))
    widest = max(map(_columns, lines))
    text = lines[0]
    for before, line in pairwise(lines):
        wrapped = widest >= _WRAPPED_AT and _columns(before) + _first_word(line) > widest
        if not wrapped or not text or not line:
            text += "\n"
        elif not (is_wide(text[-1]) and is_wide(line[0])):
            text += " "
        text += line
    return text


def _columns(text: str) -> int:
    return sum(2 if is_wide(character) else 1 for character in text)


def _first_word(line: str) -> int:
    """Return the columns that the first word needs: it did not fit on the line before."""
    if line and is_wide(line[0]):
        return 2
    return len(line.split(maxsplit=1)[0]) + 1 if line else 0
