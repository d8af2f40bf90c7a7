"""DOCX: structure, and archives that are not what they seem."""

import io
import zipfile
from pathlib import Path

import docx
import pytest

from meshwright_common.errors import ServiceError
from meshwright_rag.domain.parsed import BlockKind, ParsedDocument, ParseLimits
from meshwright_rag.parsers.docx import parse_docx

CONTENT_TYPES = "[Content_Types].xml"


def parse(tmp_path: Path, content: bytes, limits: ParseLimits | None = None) -> ParsedDocument:
    path = tmp_path / "file.docx"
    path.write_bytes(content)
    return parse_docx(path, limits or ParseLimits())


def document_bytes() -> bytes:
    document = docx.Document()
    document.core_properties.title = "员工手册"
    document.add_heading("Leave", 1)
    document.add_paragraph("Ask two weeks before.")
    document.add_heading("病假", 2)
    document.add_paragraph("请提供证明。")
    document.add_paragraph("first", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, (("day", "hours"), ("Monday", "8")), strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_paragraph("After the table.")
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def archive(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return out.getvalue()


def test_the_body_is_read_in_order_with_headings_lists_and_tables(tmp_path: Path) -> None:
    document = parse(tmp_path, document_bytes())
    blocks = [(b.kind, document.text[b.start : b.end]) for b in document.blocks]
    assert blocks == [
        (BlockKind.HEADING, "Leave"),
        (BlockKind.PARAGRAPH, "Ask two weeks before."),
        (BlockKind.HEADING, "病假"),
        (BlockKind.PARAGRAPH, "请提供证明。"),
        (BlockKind.LIST_ITEM, "• first"),
        (BlockKind.TABLE_ROW, "day | hours"),
        (BlockKind.TABLE_ROW, "Monday | 8"),
        (BlockKind.PARAGRAPH, "After the table."),
    ]
    assert document.blocks[-1].heading_path == ("Leave", "病假")
    assert document.title == "员工手册"


def test_an_archive_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = archive({CONTENT_TYPES: b"<x/>", "word/document.xml": b"0" * 30_000_000})
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, bomb)
    assert error.value.reason == "DOCUMENT_LIMIT"
    assert error.value.metadata["limit"] == "100 times its size unpacked"


def test_unpacked_size_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, document_bytes(), ParseLimits(max_unpacked_bytes=1000))
    assert error.value.metadata["limit"] == "1000 bytes unpacked"


def test_an_archive_of_very_many_files_is_refused(tmp_path: Path) -> None:
    many = archive({f"{number}": b"" for number in range(1001)})
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, many)
    assert error.value.metadata["limit"] == "1000 files inside the file"


def test_entities_that_multiply_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(document_bytes())) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    entries["word/document.xml"] = (
        entries["word/document.xml"]
        .replace(
            b"<w:document",
            f'<!DOCTYPE d [<!ENTITY a0 "ha">{laughs}]><w:document'.encode(),
            1,
        )
        .replace(b"Ask two weeks before.", b"&a9;")
    )
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, archive(entries))
    assert error.value.reason == "DOCUMENT_BROKEN"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04 cut off", "DOCUMENT_BROKEN"),
        (archive({"hello.txt": b"hi"}), "DOCUMENT_BROKEN"),
        (archive({CONTENT_TYPES: b"not xml"}), "DOCUMENT_BROKEN"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "DOCUMENT_ENCRYPTED"),
    ],
    ids=["cut off", "another archive", "wrong content", "password"],
)
def test_what_cannot_be_read_has_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, content)
    assert error.value.reason == reason


def test_a_document_without_text_is_empty(tmp_path: Path) -> None:
    out = io.BytesIO()
    docx.Document().save(out)
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, out.getvalue())
    assert error.value.reason == "DOCUMENT_EMPTY"
