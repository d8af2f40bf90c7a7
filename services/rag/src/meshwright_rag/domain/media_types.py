"""Which of the formats that are read a file is: told by its first bytes, then by its name."""

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from meshwright_rag.domain.errors import (
    DocumentBroken,
    DocumentEncrypted,
    DocumentTypeUnsupported,
)

HEAD_BYTES: Final = 4096
"""`detect` looks at this many bytes from the start of the file."""


class MediaType(StrEnum):
    """The formats that are read, by their registered names."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    CSV = "text/csv"
    TEXT = "text/plain"


SUPPORTED: Final = "PDF, DOCX, HTML, Markdown, CSV, plain text"

_BY_EXTENSION: Final = {
    ".pdf": MediaType.PDF,
    ".docx": MediaType.DOCX,
    ".html": MediaType.HTML,
    ".htm": MediaType.HTML,
    ".xhtml": MediaType.HTML,
    ".md": MediaType.MARKDOWN,
    ".markdown": MediaType.MARKDOWN,
    ".csv": MediaType.CSV,
    ".tsv": MediaType.CSV,
    ".txt": MediaType.TEXT,
    ".text": MediaType.TEXT,
    ".log": MediaType.TEXT,
    ".rst": MediaType.TEXT,
    ".adoc": MediaType.TEXT,
}
_BY_DECLARATION: Final = {
    **{kind.value: kind for kind in MediaType},
    "application/xhtml+xml": MediaType.HTML,
    "text/x-markdown": MediaType.MARKDOWN,
    "text/tab-separated-values": MediaType.CSV,
    "application/csv": MediaType.CSV,
}
_PDF_MARK: Final = b"%PDF-"
_PDF_MARK_WITHIN: Final = 1024
_ZIP_MARK: Final = b"PK\x03\x04"
_OLE_MARK: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OTHER_BINARY: Final = (
    b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x89PNG", b"\xff\xd8\xff", b"GIF8",
    b"\x7fELF", b"MZ", b"{\\rtf", b"SQLite format 3", b"\x28\xb5\x2f\xfd", b"RIFF", b"OggS", b"ID3",
)  # fmt: skip
_HTML_STARTS: Final = (b"<!doctype html", b"<html")


def detect(file_name: str, declared: str, head: bytes) -> MediaType:
    """Return a file's format, from its first `HEAD_BYTES` bytes, its name and its declared type.

    Content wins over the name, the name over the declared type (clients often declare
    application/octet-stream). Raises: DocumentTypeUnsupported; DocumentBroken when the content
    is not what the name says; DocumentEncrypted for a Word file with a password.
    """
    extension = PurePosixPath(file_name.lower()).suffix
    named = _BY_EXTENSION.get(extension)
    if named is None:
        named = _BY_DECLARATION.get(declared.partition(";")[0].strip().lower())
    if _PDF_MARK in head[:_PDF_MARK_WITHIN]:
        return MediaType.PDF
    if head.startswith((_ZIP_MARK, _OLE_MARK)):
        return _office(named, head)
    if head.startswith(_OTHER_BINARY):
        raise _unsupported(extension)
    if named in {MediaType.PDF, MediaType.DOCX}:
        raise DocumentBroken(
            f"the file is named {extension or named} but its content is something else:"
            " upload the original file",
            media_type=named,
        )
    if named is not None:
        return named
    return _unnamed(extension, declared, head)


def _office(named: MediaType | None, head: bytes) -> MediaType:
    if named is not MediaType.DOCX:
        raise _unsupported("this archive or Office file")
    if head.startswith(_OLE_MARK):
        raise DocumentEncrypted()
    return MediaType.DOCX


def _unnamed(extension: str, declared: str, head: bytes) -> MediaType:
    if head.lstrip().lower().startswith(_HTML_STARTS):
        return MediaType.HTML
    if declared.startswith("text/") or not extension:
        return MediaType.TEXT  # the decoder refuses what is not text
    raise _unsupported(extension)


def _unsupported(what: str) -> DocumentTypeUnsupported:
    return DocumentTypeUnsupported(
        f"{what or 'this kind of file'} is not supported: upload one of {SUPPORTED}",
        supported=SUPPORTED,
    )
