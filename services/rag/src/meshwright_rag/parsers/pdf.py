"""PDF: text by page with pdfium, headings from the outline or from the type size."""

import re
from collections import Counter
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
from meshwright_rag.parsers.pdf_lines import (
    PARAGRAPH_GAP,
    Line,
    drop_furniture,
    join_divided_words,
    page_lines,
)

_FULL_LINE: Final = 0.9
"""A line that reaches this share of the page's widest line was broken by the typesetter."""

_HEADING_SIZE: Final = 1.15
"""Without an outline, a line set this much larger than the body text is a heading."""

_MAX_OUTLINE_DEPTH: Final = 8

_MAX_SIZE_LEVELS: Final = 4

_MAX_HEADING_LINE: Final = 150

_BULLET: Final = re.compile(r"[•‣▪◦●○■□▶➢✓]|(?:[–—*-]|\(?\d{1,3}[.)]|[a-z][.)])\s|\d{1,3}、")


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
        pages.append(page_lines(document, index))
        characters += sum(len(line.text) for line in pages[-1])
        if characters > limits.max_text_characters:
            raise DocumentLimit(limit=f"{limits.max_text_characters} characters of text")
    if not characters:
        raise DocumentEmpty(
            "the PDF holds images but no text: run text recognition (OCR) on it and upload the copy"
        )
    join_divided_words(pages)
    drop_furniture(pages)
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


class _Headings:
    """Tells which lines are headings, and of which level."""

    def __init__(self, outline: list[_OutlineEntry], pages: list[list[Line]]) -> None:
        self._waiting: dict[int, list[_OutlineEntry]] = {}
        for entry in outline:
            self._waiting.setdefault(entry.page, []).append(entry)
        self._by_outline = bool(outline)
        self._levels = {} if outline else _size_levels(pages)

    def claim(self, page: int, line: Line) -> tuple[int, str] | None:
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

    def passed(self, page: int, line: Line | None) -> list[_OutlineEntry]:
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


def _size_levels(pages: list[list[Line]]) -> dict[int, int]:
    """Return heading level by type size in points, largest first; empty when sizes say nothing."""
    sizes = Counter[int]()
    for lines in pages:
        for line in lines:
            sizes[round(line.size)] += len(line.text)
    body = max(sizes, key=lambda size: sizes[size], default=0)
    large = sorted((size for size in sizes if size > body * _HEADING_SIZE), reverse=True)
    return {size: level for level, size in enumerate(large[:_MAX_SIZE_LEVELS], start=1)}


def _add_page(builder: DocumentBuilder, page: int, lines: list[Line], headings: _Headings) -> None:
    widest = max((line.right for line in lines), default=0)
    paragraph: list[Line] = []

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


def _continues(before: Line, line: Line) -> bool:
    """Return whether the line belongs to the paragraph of the line before it."""
    if _BULLET.match(line.text):
        return False
    if not line.size or not before.size:
        return True
    gap = before.bottom - line.top
    return -line.size <= gap <= PARAGRAPH_GAP * max(line.size, before.size)


def _joined(lines: list[Line], widest: float) -> str:
    """Return the lines as one text; only breaks that the author made stay."""
    text = lines[0].text
    for before, line in pairwise(lines):
        if before.right < widest * _FULL_LINE:
            text += "\n"
        elif not (is_wide(text[-1]) and is_wide(line.text[0])) and text[-1] not in "，。、；：":
            text += " "
        text += line.text
    return text
