"""Which format a file is."""

import pytest

from meshwright_common.errors import ServiceError
from meshwright_rag.domain.media_types import MediaType, detect

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("name", "declared", "head", "expected"),
    [
        ("manual.pdf", "", b"%PDF-1.7", MediaType.PDF),
        ("manual", "application/octet-stream", b"junk\n%PDF-1.4", MediaType.PDF),
        ("Report.DOCX", "", b"PK\x03\x04", MediaType.DOCX),
        ("a.htm", "", b"<p>x", MediaType.HTML),
        ("page", "", b"<!DOCTYPE HTML><p>", MediaType.HTML),
        ("README.md", "text/plain", b"# Hi", MediaType.MARKDOWN),
        ("t.tsv", "", b"a\tb", MediaType.CSV),
        ("notes", "", b"hello", MediaType.TEXT),
        ("notes.conf", "text/plain; charset=utf-8", b"hello", MediaType.TEXT),
        ("x.bin", "text/markdown", b"# Hi", MediaType.MARKDOWN),
    ],
)
def test_content_then_name_then_declaration_tell(
    name: str, declared: str, head: bytes, expected: MediaType
) -> None:
    assert detect(name, declared, head) is expected


@pytest.mark.parametrize(
    ("name", "head", "reason"),
    [
        ("photo.png", b"\x89PNG\r\n", "DOCUMENT_TYPE_UNSUPPORTED"),
        ("photo.txt", b"\x89PNG\r\n", "DOCUMENT_TYPE_UNSUPPORTED"),
        ("table.xlsx", b"PK\x03\x04", "DOCUMENT_TYPE_UNSUPPORTED"),
        ("old.doc", OLE, "DOCUMENT_TYPE_UNSUPPORTED"),
        ("program.exe", b"hello", "DOCUMENT_TYPE_UNSUPPORTED"),
        ("fake.pdf", b"hello", "DOCUMENT_BROKEN"),
        ("fake.docx", b"hello", "DOCUMENT_BROKEN"),
        ("locked.docx", OLE, "DOCUMENT_ENCRYPTED"),
    ],
)
def test_other_files_are_refused_with_a_reason(name: str, head: bytes, reason: str) -> None:
    with pytest.raises(ServiceError) as error:
        detect(name, "", head)
    assert error.value.reason == reason


def test_a_refusal_names_what_is_supported() -> None:
    with pytest.raises(ServiceError, match="PDF, DOCX, HTML, Markdown, CSV") as error:
        detect("photo.png", "", b"\x89PNG")
    assert error.value.metadata["supported"]
