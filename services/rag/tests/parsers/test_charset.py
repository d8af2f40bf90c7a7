"""Encodings: told with confidence, or refused. Never wrong characters."""

import pytest

from meshwright_common.errors import ServiceError
from meshwright_rag.parsers.charset import decode

CHINESE = "产品说明书：本机保修两年。忘记密码怎么办？请联系管理员。"
TAIWAN = "這是一份繁體中文的測試文件，內容包括網路設定與系統管理的說明。"
JAPANESE = "これは日本語のテスト文書です。ネットワークの設定方法を説明します。"
KOREAN = "이것은 한국어 시험 문서입니다. 시스템 관리자에게 문의하십시오."
RUSSIAN = "Это тестовый документ на русском языке. Обратитесь к администратору системы."
FRENCH = "Le café où l'élève a été très étonné — voilà ça dépend de l'été passé."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "utf-8"),
        (CHINESE, "utf-8-sig"),
        (CHINESE, "utf-16"),
        (CHINESE, "utf-16-le"),
        (CHINESE, "utf-32"),
        (CHINESE, "gb18030"),
        (CHINESE[:13], "gb18030"),
        ("忘记密码怎么办？", "gb18030"),
        (TAIWAN, "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "euc_kr"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp1251"),
        (FRENCH, "cp1252"),
        ("Don’t panic – it’s fine.", "cp1252"),
        ("plain english text", "utf-16-le"),
    ],
)
def test_the_text_comes_back_as_it_was_written(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding))[0] == text


def test_a_wrong_declaration_is_not_believed() -> None:
    assert decode(CHINESE.encode("gb18030"), declared="shift_jis")[0] == CHINESE


def test_an_unknown_declaration_is_ignored() -> None:
    assert decode(CHINESE.encode("gb18030"), declared="klingon-8")[0] == CHINESE


def test_damaged_utf8_is_refused_naming_the_place() -> None:
    raw = "第一行\n第二行".encode()
    with pytest.raises(ServiceError) as error:
        decode(raw[:-1] + b"\n" + raw)
    assert error.value.reason == "DOCUMENT_ENCODING"
    assert error.value.metadata["line"] == "2"


@pytest.mark.parametrize(
    "raw",
    [
        b"abc \xff\xfe def",
        b"hello \xc3\x28 world \x81\x8d",
        bytes(range(128, 256)) * 3,
        b"\xff\xfe" + b"\x00\xd8" * 3,
    ],
)
def test_what_cannot_be_told_is_refused(raw: bytes) -> None:
    with pytest.raises(ServiceError) as error:
        decode(raw)
    assert error.value.reason in {"DOCUMENT_ENCODING", "DOCUMENT_TYPE_UNSUPPORTED"}


@pytest.mark.parametrize("raw", [b"", b" \n\t", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_nothing_is_empty(raw: bytes) -> None:
    with pytest.raises(ServiceError) as error:
        decode(raw)
    assert error.value.reason == "DOCUMENT_EMPTY"


def test_binary_data_is_no_text() -> None:
    with pytest.raises(ServiceError) as error:
        decode(b"\x00\x01\x02\x03" * 100)
    assert error.value.reason == "DOCUMENT_TYPE_UNSUPPORTED"
