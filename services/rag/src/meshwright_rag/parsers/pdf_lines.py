"""The lines of a PDF's pages, with their places, and without what only repeats on every page."""

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

HYPHEN_AT_LINE_END: Final = "\ufffe"
"""What pdfium puts where a word was divided between two lines."""

_EDGE_LINES: Final = 2
"""Running headers and footers are looked for in this many lines at the top and at the bottom."""

_FURNITURE_PAGES: Final = 3
"""A line at an edge that comes back on this many pages is furniture, not text."""

_CONTENTS_SHARE: Final = 0.4
"""A page with this share of dotted lines is a table of contents: nothing on it answers anything."""

PARAGRAPH_GAP: Final = 1.45
"""Lines further apart than this multiple of the type size belong to two paragraphs."""

_MAX_FURNITURE: Final = 150

_NUMBERS: Final = re.compile(r"\d+|\b[ivxlc]+\b")

_CONTENTS_LINE: Final = re.compile(r"(?:[.·…][ ]?){4,}\s*(?:\d+|[ivxlc]+)\s*$")

_COUNTING: Final = re.compile(r"(\d{1,5})\b|.*\b(\d{1,5})$")

_WORD: Final = re.compile(r"[A-Za-z]{2,}(?:-[A-Za-z]+)*")

_DIVIDED: Final = re.compile(rf"([A-Za-z]*){HYPHEN_AT_LINE_END}([A-Za-z]*)")

_EdgeKey = tuple[int, str | int]


@dataclass(slots=True, eq=False)
class Line:
    """One line of a page. Lengths in points, `top` and `bottom` are baselines."""

    text: str
    size: float
    left: float
    right: float
    top: float
    bottom: float


def page_lines(document: pdfium.PdfDocument, index: int) -> list[Line]:
    """Return the lines of the page at `index` (from 0) in reading order, without empty ones."""
    page = document[index]
    try:
        text_page = page.get_textpage()
        try:
            text = text_page.get_text_range()
            # Geometry is by character; a page where text and characters do not run in step
            # (characters outside the BMP) keeps its text and loses only the paragraph joins.
            in_step = len(text) == text_page.count_chars()
            return list(_lines_of(text, text_page if in_step else None))
        finally:
            text_page.close()
    finally:
        page.close()


def _lines_of(text: str, text_page: pdfium.PdfTextPage | None) -> Iterator[Line]:
    offset = 0
    for raw_line in text.split("\r\n"):
        line = raw_line.strip()
        first = offset + len(raw_line) - len(raw_line.lstrip())
        last = offset + len(raw_line.rstrip()) - 1
        offset += len(raw_line) + 2
        if not line:
            continue
        if text_page is None:
            yield Line(line, 0, 0, 0, 0, 0)
            continue
        size = pdfium_c.FPDFText_GetFontSize(text_page.raw, first)
        left, top = _origin(text_page, first)
        _, bottom = _origin(text_page, last)
        right = text_page.get_charbox(last)[2]
        yield Line(line, size, left, right, top, bottom)


def _origin(text_page: pdfium.PdfTextPage, index: int) -> tuple[float, float]:
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium_c.FPDFText_GetCharOrigin(text_page.raw, index, x, y)
    return x.value, y.value


def join_divided_words(pages: list[list[Line]]) -> None:
    """Undo divisions at line ends: a hyphen stays only where the document writes it elsewhere."""
    words = Counter[str]()
    for lines in pages:
        for line in lines:
            words.update(word.lower() for word in _WORD.findall(line.text))

    def joined(match: re.Match[str]) -> str:
        before, after = match[1], match[2]
        plain, hyphened = (before + after).lower(), f"{before}-{after}".lower()
        keep = words[hyphened] > words[plain] or not (after[:1].islower() and before)
        return f"{before}-{after}" if keep else before + after

    for lines in pages:
        for line in lines:
            if HYPHEN_AT_LINE_END in line.text:
                line.text = _DIVIDED.sub(joined, line.text)


def drop_furniture(pages: list[list[Line]]) -> None:
    """Remove running headers and footers, page numbers and the pages of a table of contents."""
    seen = Counter[_EdgeKey]()
    for number, lines in enumerate(pages, start=1):
        seen.update({key for line in _edges(lines) for key in _edge_keys(number, line)})
    for number, lines in enumerate(pages, start=1):

        def comes_back(line: Line, page: int = number) -> bool:
            return any(seen[key] >= _FURNITURE_PAGES for key in _edge_keys(page, line))

        top = _furniture_lines(lines, comes_back)
        bottom = _furniture_lines(lines[top:][::-1], comes_back)
        lines[:] = lines[top : len(lines) - bottom]
        contents = [line for line in lines if _CONTENTS_LINE.search(line.text)]
        if len(contents) >= len(lines) * _CONTENTS_SHARE:
            lines.clear()
        for line in contents:
            if line in lines:
                lines.remove(line)


def _furniture_lines(lines: list[Line], comes_back: Callable[[Line], bool]) -> int:
    """Return how many lines from the edge are furniture: a gap divides them from the text."""
    for count in range(min(_EDGE_LINES, len(lines)), 0, -1):
        if all(comes_back(line) for line in lines[:count]) and (
            count == len(lines) or not close_together(lines[count - 1], lines[count])
        ):
            return count
    return 0


def close_together(one: Line, other: Line) -> bool:
    return abs(one.bottom - other.top) <= PARAGRAPH_GAP * max(one.size, other.size)


def _edges(lines: list[Line]) -> list[Line]:
    if len(lines) <= 2 * _EDGE_LINES:
        return lines.copy()
    return [*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]


def _edge_keys(page: int, line: Line) -> Iterator[_EdgeKey]:
    """Yield what furniture has in common from page to page: its words, or a counting number."""
    place = round(line.top)
    yield place, _NUMBERS.sub("#", line.text.lower())
    counting = _COUNTING.match(line.text)
    if counting and len(line.text) <= _MAX_FURNITURE:
        yield place, page - int(counting[1] or counting[2])
