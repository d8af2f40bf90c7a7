"""The parser of each format."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.parsed import ParsedDocument, ParseLimits
from meshwright_rag.parsers.csv import parse_csv
from meshwright_rag.parsers.docx import parse_docx
from meshwright_rag.parsers.html import parse_html
from meshwright_rag.parsers.markdown import parse_markdown
from meshwright_rag.parsers.pdf import parse_pdf
from meshwright_rag.parsers.text import parse_text

_PARSERS: Final[Mapping[MediaType, Callable[[Path, ParseLimits], ParsedDocument]]] = {
    MediaType.PDF: parse_pdf,
    MediaType.DOCX: parse_docx,
    MediaType.HTML: parse_html,
    MediaType.MARKDOWN: parse_markdown,
    MediaType.CSV: parse_csv,
    MediaType.TEXT: parse_text,
}


def parse(path: Path, media_type: MediaType, limits: ParseLimits) -> ParsedDocument:
    """Return the text and the structure of the file at `path`. Raises: one of REJECTIONS."""
    return _PARSERS[media_type](path, limits)
