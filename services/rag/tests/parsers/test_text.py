"""Plain text."""

from pathlib import Path

from meshwright_rag.domain.parsed import ParsedDocument, ParseLimits
from meshwright_rag.parsers.text import parse_text


def parse(tmp_path: Path, text: str) -> ParsedDocument:
    path = tmp_path / "file.txt"
    path.write_text(text)
    return parse_text(path, ParseLimits())


def test_wrapped_lines_are_joined_and_short_ones_kept(tmp_path: Path) -> None:
    wrapped = (
        "This paragraph was wrapped by a program at a width of about sixty-five\n"
        "columns, which is why its lines have to be joined again when they are\n"
        "read.\n\nname: value\nother: value\n"
    )
    first, second = parse(tmp_path, wrapped).text.split("\n\n")
    assert "\n" not in first
    assert second == "name: value\nother: value"


def test_chinese_lines_are_joined_without_blanks(tmp_path: Path) -> None:
    text = "系统管理员" * 8 + "\n" + "网络工程师" * 3
    assert parse(tmp_path, text).text == "系统管理员" * 8 + "网络工程师" * 3


def test_underlined_and_numbered_lines_are_headings(tmp_path: Path) -> None:
    text = "Manual\n======\n\n1.2 Disks\n\nText.\n\n第三章 网络\n\n正文在这里。"
    document = parse(tmp_path, text)
    paths = {document.text[b.start : b.end]: b.heading_path for b in document.blocks}
    assert paths["Text."] == ("Manual", "1.2 Disks")
    assert paths["正文在这里。"] == ("第三章 网络",)


def test_steps_of_a_list_are_no_headings(tmp_path: Path) -> None:
    document = parse(tmp_path, "3. Open the lid\n\nThen wait.")
    assert document.blocks[-1].heading_path == ()


def test_a_drawn_table_keeps_its_rows(tmp_path: Path) -> None:
    text = "+----+----+\n| a  | b  |\n|----+----|\n| c  | d  |\n+----+----+"
    assert parse(tmp_path, text).text == "| a | b |\n| c | d |"
