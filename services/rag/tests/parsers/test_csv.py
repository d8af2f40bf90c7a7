"""CSV by records."""

from pathlib import Path

import pytest

from meshwright_common.errors import ServiceError
from meshwright_rag.domain.parsed import ParsedDocument, ParseLimits
from meshwright_rag.parsers.csv import parse_csv


def parse(tmp_path: Path, content: bytes) -> ParsedDocument:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    return parse_csv(path, ParseLimits())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_each_record_repeats_the_column_names(tmp_path: Path, delimiter: str) -> None:
    rows = (("name", "city"), ("Ann", "Oslo"), ("李雷", "北京"))
    content = "\n".join(delimiter.join(row) for row in rows).encode()
    assert parse(tmp_path, content).text.split("\n") == [
        "name | city",
        "name: Ann; city: Oslo",
        "name: 李雷; city: 北京",
    ]


def test_quoted_fields_may_hold_delimiters_and_newlines(tmp_path: Path) -> None:
    content = b'name,note\nAnn,"a, b\nc"\n'
    assert parse(tmp_path, content).text.endswith("name: Ann; note: a, b c")


def test_numbers_are_no_header(tmp_path: Path) -> None:
    assert parse(tmp_path, b"2023,5\n2024,6\n").text == "2023 | 5\n2024 | 6"


def test_a_file_for_spreadsheets_in_gb18030_is_read(tmp_path: Path) -> None:
    content = "姓名,城市,备注\n李雷,北京,系统管理员\n韩梅梅,上海,网络工程师\n".encode("gb18030")
    document = parse(tmp_path, content)
    assert "姓名: 韩梅梅; 城市: 上海" in document.text
    assert document.charset == "gb18030"


def test_a_field_without_end_is_broken(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as error:
        parse(tmp_path, b'a,b\n"' + b"x" * 1_100_000)
    assert error.value.reason == "DOCUMENT_BROKEN"
