"""The parser of each format."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from meshwright_rag.domain.media_types import MediaType
from meshwright_rag.domain.parsed import ParsedDocument, ParseLimits

_MODULES: Final[Mapping[MediaType, str]] = {
    MediaType.PDF: "pdf",
    MediaType.DOCX: "docx",
    MediaType.HTML: "html",
    MediaType.MARKDOWN: "markdown",
    MediaType.CSV: "csv",
    MediaType.TEXT: "text",
}
"""Module and, after `parse_`, function. Imported when needed: most processes see one format."""


class _Parser(Protocol):
    def __call__(self, path: Path, limits: ParseLimits) -> ParsedDocument: ...


def parse(path: Path, media_type: MediaType, limits: ParseLimits) -> ParsedDocument:
    """Return the text and the structure of the file at `path`. Raises: one of REJECTIONS."""
    name = _MODULES[media_type]
    module = import_module(f"meshwright_rag.parsers.{name}")
    parser = cast(_Parser, getattr(module, f"parse_{name}"))
    return parser(path, limits)
