"""HTML: what a reader sees."""

from pathlib import Path

import pytest

from meshwright_common.errors import ServiceError
from meshwright_rag.domain.parsed import BlockKind, ParsedDocument, ParseLimits
from meshwright_rag.parsers.html import html_document, parse_html


def parse(html: str) -> ParsedDocument:
    return html_document(html, ParseLimits())


def blocks(html: str) -> list[str]:
    document = parse(html)
    return [document.text[one.start : one.end] for one in document.blocks]


def test_headings_paragraphs_lists_and_tables_become_blocks() -> None:
    html = """<title>Guide</title><h1>Install</h1><p>Run  the
      <b>installer</b>.<br>Then wait.</p>
      <ul><li>one</li><li>two<p>more of two</p></li></ul>
      <table><tr><th>key</th><td>value</td></tr></table><pre>  a\n  b</pre>tail"""
    document = parse(html)
    assert [(b.kind, document.text[b.start : b.end]) for b in document.blocks] == [
        (BlockKind.HEADING, "Install"),
        (BlockKind.PARAGRAPH, "Run the installer.\nThen wait."),
        (BlockKind.LIST_ITEM, "• one"),
        (BlockKind.LIST_ITEM, "• two"),
        (BlockKind.LIST_ITEM, "more of two"),
        (BlockKind.TABLE_ROW, "key | value"),
        (BlockKind.CODE, "  a\n  b"),
        (BlockKind.PARAGRAPH, "tail"),
    ]
    assert document.title == "Guide"
    assert document.blocks[-1].heading_path == ("Install",)


def test_what_nobody_sees_is_left_out() -> None:
    html = """<nav>Home</nav><script>steal()</script><style>p{}</style><footer>(c)</footer>
      <p hidden>secret</p><p style="display: none">secret</p><!-- secret -->
      <p>seen</p><noscript>no</noscript><div aria-hidden="true">icon</div>"""
    assert blocks(html) == ["seen"]


def test_the_main_part_is_the_document() -> None:
    html = f"<body><div>menu</div><main><p>{'text ' * 20}</p></main></body>"
    assert blocks(html) == [("text " * 20).strip()]


def test_a_table_for_layout_is_read_like_sections() -> None:
    assert blocks("<table><tr><td><h2>A</h2><p>text</p></td></tr></table>") == ["A", "text"]


def test_deep_nesting_is_no_problem() -> None:
    assert blocks("<div>" * 50_000 + "deep") == ["deep"]


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="gb2312">', "gb18030"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=big5">', "big5"),
        ('<?xml version="1.0" encoding="GBK"?>', "gbk"),
        ("", "utf-8"),
    ],
)
def test_the_declared_encoding_is_used(tmp_path: Path, head: str, encoding: str) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(f"{head}<p>網路設定與系統管理</p>".encode(encoding))
    assert parse_html(path, ParseLimits()).text == "網路設定與系統管理"


def test_a_page_without_text_is_empty() -> None:
    with pytest.raises(ServiceError) as error:
        parse("<html><body><img src=x></body></html>")
    assert error.value.reason == "DOCUMENT_EMPTY"
