"""PDF: pages, paragraphs, headings, furniture, and files that cannot be read."""

from pathlib import Path

import pytest

from meshwright_common.errors import ServiceError
from meshwright_rag.domain.parsed import BlockKind, ParsedDocument, ParseLimits
from meshwright_rag.parsers.pdf import parse_pdf
from services.rag.tests.pdfs import Entry, Text, lines, make_encrypted_pdf, make_pdf

WIDE = "This line of the paragraph reaches all the way to the right margin of it"


def parse(tmp_path: Path, pdf: bytes, limits: ParseLimits | None = None) -> ParsedDocument:
    path = tmp_path / "file.pdf"
    path.write_bytes(pdf)
    return parse_pdf(path, limits or ParseLimits())


def texts(document: ParsedDocument, page: int | None = None) -> list[str]:
    return [
        document.text[one.start : one.end]
        for one in document.blocks
        if page is None or one.page == page
    ]


def test_text_knows_its_page(tmp_path: Path) -> None:
    document = parse(tmp_path, make_pdf([[Text("one")], [Text("two")]], title="A manual"))
    assert [(texts(document, page), page) for page in (1, 2)] == [(["one"], 1), (["two"], 2)]
    assert (document.page_count, document.title) == (2, "A manual")


def test_lines_of_a_paragraph_are_joined_and_paragraphs_kept_apart(tmp_path: Path) -> None:
    page = [*lines(WIDE, "and ends here."), Text("Another paragraph.", y=650)]
    assert texts(parse(tmp_path, make_pdf([page]))) == [
        f"{WIDE} and ends here.",
        "Another paragraph.",
    ]


def test_a_break_before_the_margin_stays(tmp_path: Path) -> None:
    page = [*lines("name: value", "other: value"), *lines(WIDE, top=600)]
    assert texts(parse(tmp_path, make_pdf([page])))[0] == "name: value\nother: value"


def test_the_outline_gives_the_heading_path(tmp_path: Path) -> None:
    pages = [
        [Text("1 Setup", y=700), Text("Do this.", y=670), Text("1.1 Network", y=640)],
        [Text("Plug it in.")],
    ]
    outline = (Entry("1 Setup", 1, 710), Entry("1.1 Network", 1, 650))
    document = parse(tmp_path, make_pdf(pages, outline))
    paths = {document.text[b.start : b.end]: b.heading_path for b in document.blocks}
    assert paths["Do this."] == ("1 Setup",)
    assert paths["Plug it in."][-1] == "1.1 Network"
    assert document.blocks[0].kind is BlockKind.HEADING


def test_without_an_outline_large_type_is_a_heading(tmp_path: Path) -> None:
    page = [Text("Big Title", y=700, size=20), *lines("body text " * 6, "more body", top=660)]
    document = parse(tmp_path, make_pdf([page]))
    assert document.blocks[0].kind is BlockKind.HEADING
    assert document.blocks[1].heading_path == ("Big Title",)


def test_running_headers_and_page_numbers_are_left_out(tmp_path: Path) -> None:
    pages = [
        [
            Text("The Manual", y=770),
            *lines(*(f"content {number} {word}" for word in "abcdef")),
            Text(f"Chapter {number // 3} about something - {number + 10}", y=30),
        ]
        for number in range(1, 6)
    ]
    text = parse(tmp_path, make_pdf(pages)).text
    assert "The Manual" not in text
    assert "Chapter" not in text
    assert "content 5 f" in text


def test_a_table_of_contents_is_left_out(tmp_path: Path) -> None:
    contents = lines("Contents", *(f"Section {n} . . . . . . . . . . {n}" for n in range(5)))
    text = parse(tmp_path, make_pdf([contents, [Text("Section 1")]])).text
    assert text == "Section 1"


@pytest.mark.parametrize(
    ("pdf", "reason"),
    [
        (make_encrypted_pdf("secret"), "DOCUMENT_ENCRYPTED"),
        (b"%PDF-1.7\nnothing here", "DOCUMENT_BROKEN"),
        (make_pdf([[Text("x")]])[:200], "DOCUMENT_BROKEN"),
        (make_pdf([[]]), "DOCUMENT_EMPTY"),
    ],
    ids=["encrypted", "no objects", "cut off", "no text"],
)
def test_what_cannot_be_read_has_a_reason(tmp_path: Path, pdf: bytes, reason: str) -> None:
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, pdf)
    assert error.value.reason == reason


def test_too_many_pages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, make_pdf([[Text("x")]] * 3), ParseLimits(max_pages=2))
    assert error.value.reason == "DOCUMENT_LIMIT"
    assert error.value.metadata["limit"] == "2 pages"
