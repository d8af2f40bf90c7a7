"""PDF: text by page with pdfium, headings from the outline or from the type size."""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from meshwright_rag.domain.errors import (
    DocumentBroken,
    DocumentEmpty,
    DocumentEncrypted,
    DocumentLimit,
)
from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParsedDocument, ParseLimits
from meshwright_rag.domain.text import is_wide

HYPHEN_AT_LINE_END: Final = "\ufffe"
"""What pdfium puts where a word was divided between two lines."""

_EDGE_LINES: Final = 2
"""Running headers and footers are looked for in this many lines at the top and at the bottom."""

_FURNITURE_PAGES: Final = 3
"""A line at an edge that comes back on this many pages is furniture, not text."""

_CONTENTS_SHARE: Final = 0.4
"""A page with this share of dotted lines is a table of contents: nothing on it answers anything."""

_PARAGRAPH_GAP: Final = 1.45
"""Lines further apart than this multiple of the type size belong to two paragraphs."""

_FULL_LINE: Final = 0.9
"""A line that reaches this share of the page's widest line was broken by the typesetter."""

_HEADING_SIZE: Final = 1.15
"""Without an outline, a line set this much larger than the body text is a heading."""

_MAX_OUTLINE_DEPTH: Final = 8
_MAX_SIZE_LEVELS: Final = 4
_MAX_HEADING_LINE: Final = 150

_NUMBERS: Final = re.compile(r"\d+|\b[ivxlc]+\b")
_CONTENTS_LINE: Final = re.compile(r"(?:[.·…][ ]?){4,}\s*(?:\d+|[ivxlc]+)\s*$")
_COUNTING: Final = re.compile(r"(\d{1,5})\b|.*\b(\d{1,5})$")
_BULLET: Final = re.compile(r"[•‣▪◦●○■□▶➢✓]|(?:[–—*-]|\(?\d{1,3}[.)]|[a-z][.)])\s|\d{1,3}、")
_WORD: Final = re.compile(r"[A-Za-z]{2,}(?:-[A-Za-z]+)*")
_DIVIDED: Final = re.compile(rf"([A-Za-z]*){HYPHEN_AT_LINE_END}([A-Za-z]*)")


_EdgeKey = tuple[int, str | int]


@dataclass(slots=True, eq=False)
class _Line:
    """One line of a page. Lengths in points, `top` and `bottom` are baselines."""

    text: str
    size: float
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class _OutlineEntry:
    level: int
    title: str
    page: int
    top: float


def parse_pdf(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Return the text of a PDF with its pages.

    Raises: DocumentEncrypted, DocumentBroken, DocumentEmpty (only images), DocumentLimit.
    """
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        raise _opening_error(error) from error
    try:
        return _parse(document, limits)
    except pdfium.PdfiumError as error:
        raise DocumentBroken(detail=str(error)) from error
    finally:
        document.close()


def _opening_error(error: pdfium.PdfiumError) -> DocumentBroken | DocumentEncrypted:
    locked = (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY)
    if error.err_code in locked:
        return DocumentEncrypted()
    return DocumentBroken(detail=str(error))


def _parse(document: pdfium.PdfDocument, limits: ParseLimits) -> ParsedDocument:
    page_count = len(document)
    if page_count > limits.max_pages:
        raise DocumentLimit(limit=f"{limits.max_pages} pages", pages=str(page_count))
    outline = _outline(document)
    pages = []
    characters = 0
    for index in range(page_count):
        pages.append(_lines(document, index))
        characters += sum(len(line.text) for line in pages[-1])
        if characters > limits.max_text_characters:
            raise DocumentLimit(limit=f"{limits.max_text_characters} characters of text")
    if not characters:
        raise DocumentEmpty(
            "the PDF holds images but no text: run text recognition (OCR) on it and upload the copy"
        )
    _join_divided_words(pages)
    _drop_furniture(pages)
    builder = DocumentBuilder(limits, title=document.get_metadata_value("Title"))
    headings = _Headings(outline, pages)
    for number, lines in enumerate(pages, start=1):
        _add_page(builder, number, lines, headings)
    return builder.build(page_count=page_count)


def _outline(document: pdfium.PdfDocument) -> list[_OutlineEntry]:
    entries = []
    for bookmark in document.get_toc(max_depth=_MAX_OUTLINE_DEPTH):
        destination = bookmark.get_dest()
        page = None if destination is None else destination.get_index()
        if destination is None or page is None:
            continue
        mode, view = destination.get_view()
        # Other modes than XYZ name no place on the page: the heading stands at its top.
        top = view[1] if mode == pdfium_c.PDFDEST_VIEW_XYZ and len(view) > 1 else None
        title = bookmark.get_title().strip()
        entries.append(_OutlineEntry(bookmark.level + 1, title, page + 1, top or float("inf")))
    return entries


def _lines(document: pdfium.PdfDocument, index: int) -> list[_Line]:
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


def _lines_of(text: str, text_page: pdfium.PdfTextPage | None) -> Iterator[_Line]:
    offset = 0
    for raw_line in text.split("\r\n"):
        line = raw_line.strip()
        first = offset + len(raw_line) - len(raw_line.lstrip())
        last = offset + len(raw_line.rstrip()) - 1
        offset += len(raw_line) + 2
        if not line:
            continue
        if text_page is None:
            yield _Line(line, 0, 0, 0, 0, 0)
            continue
        size = pdfium_c.FPDFText_GetFontSize(text_page.raw, first)
        left, top = _origin(text_page, first)
        _, bottom = _origin(text_page, last)
        right = text_page.get_charbox(last)[2]
        yield _Line(line, size, left, right, top, bottom)


def _origin(text_page: pdfium.PdfTextPage, index: int) -> tuple[float, float]:
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium_c.FPDFText_GetCharOrigin(text_page.raw, index, x, y)
    return x.value, y.value


def _join_divided_words(pages: list[list[_Line]]) -> None:
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


def _drop_furniture(pages: list[list[_Line]]) -> None:
    """Remove running headers and footers, page numbers and the pages of a table of contents."""
    seen = Counter[_EdgeKey]()
    for number, lines in enumerate(pages, start=1):
        seen.update({key for line in _edges(lines) for key in _edge_keys(number, line)})
    for number, lines in enumerate(pages, start=1):
        for line in _edges(lines):
            if any(seen[key] >= _FURNITURE_PAGES for key in _edge_keys(number, line)):
                lines.remove(line)
        contents = [line for line in lines if _CONTENTS_LINE.search(line.text)]
        if len(contents) >= len(lines) * _CONTENTS_SHARE:
            lines.clear()
        for line in contents:
            if line in lines:
                lines.remove(line)


def _edges(lines: list[_Line]) -> list[_Line]:
    if len(lines) <= 2 * _EDGE_LINES:
        return lines.copy()
    return [*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]


def _edge_keys(page: int, line: _Line) -> Iterator[_EdgeKey]:
    """Yield what furniture has in common from page to page: its words, or a counting number."""
    place = round(line.top)
    yield place, _NUMBERS.sub("#", line.text.lower())
    counting = _COUNTING.match(line.text)
    if counting and len(line.text) <= _MAX_HEADING_LINE:
        yield place, page - int(counting[1] or counting[2])


class _Headings:
    """Tells which lines are headings, and of which level."""

    def __init__(self, outline: list[_OutlineEntry], pages: list[list[_Line]]) -> None:
        self._waiting: dict[int, list[_OutlineEntry]] = {}
        for entry in outline:
            self._waiting.setdefault(entry.page, []).append(entry)
        self._by_outline = bool(outline)
        self._levels = {} if outline else _size_levels(pages)

    def claim(self, page: int, line: _Line) -> tuple[int, str] | None:
        """Return level and title when the line is a heading."""
        if not self._by_outline:
            level = self._levels.get(round(line.size))
            return (level, line.text) if level and len(line.text) <= _MAX_HEADING_LINE else None
        waiting = self._waiting.get(page, [])
        for entry in waiting:
            if _same_title(entry.title, line.text):
                waiting.remove(entry)
                return entry.level, line.text
        return None

    def passed(self, page: int, line: _Line | None) -> list[_OutlineEntry]:
        """Return the entries whose place is above the line (None: end of page), unclaimed.

        Their titles are set in a way that the text does not show: the path changes all the same.
        """
        waiting = self._waiting.get(page, [])
        gone = [entry for entry in waiting if line is None or entry.top > line.top + 3 * line.size]
        for entry in gone:
            waiting.remove(entry)
        return gone


def _same_title(title: str, line: str) -> bool:
    wanted = "".join(title.split()).casefold()
    found = "".join(line.split()).casefold()
    return bool(wanted) and (
        found == wanted or (found.endswith(wanted) and len(found) <= len(wanted) + 16)
    )


def _size_levels(pages: list[list[_Line]]) -> dict[int, int]:
    """Return heading level by type size in points, largest first; empty when sizes say nothing."""
    sizes = Counter[int]()
    for lines in pages:
        for line in lines:
            sizes[round(line.size)] += len(line.text)
    body = max(sizes, key=lambda size: sizes[size], default=0)
    large = sorted((size for size in sizes if size > body * _HEADING_SIZE), reverse=True)
    return {size: level for level, size in enumerate(large[:_MAX_SIZE_LEVELS], start=1)}


def _add_page(builder: DocumentBuilder, page: int, lines: list[_Line], headings: _Headings) -> None:
    widest = max((line.right for line in lines), default=0)
    paragraph: list[_Line] = []

    def flush() -> None:
        if paragraph:
            bullet = _BULLET.match(paragraph[0].text)
            kind = BlockKind.LIST_ITEM if bullet else BlockKind.PARAGRAPH
            builder.add(kind, _joined(paragraph, widest), page=page)
            paragraph.clear()

    for line in lines:
        heading = headings.claim(page, line)
        for entry in headings.passed(page, line):
            flush()
            builder.enter(entry.level, entry.title)
        if heading:
            flush()
            builder.heading(*heading, page=page)
            continue
        if paragraph and not _continues(paragraph[-1], line):
            flush()
        paragraph.append(line)
    flush()
    for entry in headings.passed(page, None):
        builder.enter(entry.level, entry.title)


def _continues(before: _Line, line: _Line) -> bool:
    """Return whether the line belongs to the paragraph of the line before it."""
    if _BULLET.match(line.text):
        return False
    if not line.size or not before.size:
        return True
    gap = before.bottom - line.top
    return -line.size <= gap <= _PARAGRAPH_GAP * max(line.size, before.size)


def _joined(lines: list[_Line], widest: float) -> str:
    """Return the lines as one text; only breaks that the author made stay."""
    text = lines[0].text
    for before, line in pairwise(lines):
        if before.right < widest * _FULL_LINE:
            text += "\n"
        elif not (is_wide(text[-1]) and is_wide(line.text[0])) and text[-1] not in "，。、；：":
            text += " "
        text += line.text
    return text
