"""DOCX: paragraphs and tables in the order of the body, headings by style or outline level."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import docx
import docx.document
import docx.opc.exceptions
from docx.oxml.ns import qn
from docx.table import Table, _Cell
from docx.text.paragraph import Paragraph
from lxml import etree

from meshwright_rag.domain.errors import DocumentBroken, DocumentEncrypted
from meshwright_rag.domain.parsed import BlockKind, DocumentBuilder, ParsedDocument, ParseLimits
from meshwright_rag.parsers.archive import check_archive

_OLE_SIGNATURE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Office wraps a document with a password in an OLE container instead of a ZIP archive."""

_HEADING_STYLE: Final = re.compile(r"(?:heading|标题|標題)\s*(\d)", re.IGNORECASE)
_BODY_TEXT_LEVEL: Final = 9
_MAX_STYLE_DEPTH: Final = 16


def parse_docx(path: Path, limits: ParseLimits) -> ParsedDocument:
    """Return the text of a Word document; it has no pages before somebody prints it.

    Raises: DocumentEncrypted, DocumentBroken, DocumentEmpty, DocumentLimit.
    """
    with path.open("rb") as stream:
        if stream.read(len(_OLE_SIGNATURE)) == _OLE_SIGNATURE:
            raise DocumentEncrypted()
    names = check_archive(path, limits)
    if "[Content_Types].xml" not in names:
        raise DocumentBroken(detail="not a Word document: [Content_Types].xml is missing")
    try:
        document = docx.Document(str(path))
        builder = DocumentBuilder(limits, title=document.core_properties.title or "")
        for item in document.iter_inner_content():
            _add(builder, item)
    except (
        docx.opc.exceptions.OpcError,
        etree.LxmlError,
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        AttributeError,
    ) as error:
        # python-docx meets a damaged package with whatever its tree walk runs into.
        raise DocumentBroken(detail=type(error).__name__) from error
    return builder.build()


def _add(builder: DocumentBuilder, item: Paragraph | Table) -> None:
    if isinstance(item, Table):
        for row in _rows(item):
            builder.add(BlockKind.TABLE_ROW, row)
        return
    text = item.text
    level = _heading_level(item)
    if level:
        builder.heading(level, text)
    elif _is_list_item(item):
        builder.add(BlockKind.LIST_ITEM, f"• {text}" if text.strip() else "")
    else:
        builder.add(BlockKind.PARAGRAPH, text)


def _rows(table: Table) -> Iterator[str]:
    for row in table.rows:
        cells: list[_Cell] = []
        for cell in row.cells:
            # A merged cell comes once per column that it covers.
            if not cells or cell._tc is not cells[-1]._tc:
                cells.append(cell)
        texts = [" ".join(cell.text.split()) for cell in cells]
        if any(texts):
            yield " | ".join(texts)


def _heading_level(paragraph: Paragraph) -> int | None:
    style = paragraph.style
    name = (style.name or "") if style else ""
    if name.lower() == "title":
        return 1
    match = _HEADING_STYLE.match(name)
    if match:
        return int(match[1])
    return _outline_level(paragraph)


def _outline_level(paragraph: Paragraph) -> int | None:
    """Return the level set on the paragraph or on a style that it is based on."""
    properties = [paragraph._p.pPr]
    style = paragraph.style
    while style is not None and len(properties) < _MAX_STYLE_DEPTH:
        properties.append(style.element.find(qn("w:pPr")))
        style = style.base_style
    for element in properties:
        level = None if element is None else element.find(qn("w:outlineLvl"))
        if level is not None:
            value = int(level.get(qn("w:val"), str(_BODY_TEXT_LEVEL)))
            return value + 1 if value < _BODY_TEXT_LEVEL else None
    return None


def _is_list_item(paragraph: Paragraph) -> bool:
    properties = paragraph._p.pPr
    if properties is not None and properties.numPr is not None:
        return True
    style = paragraph.style
    return bool(style and (style.name or "").lower().startswith("list"))
