"""Words for full text."""

import pytest

from meshwright_common.text.terms import terms


def words(text: str) -> list[str]:
    return [term for _, term in terms(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("忘记密码", ["忘记", "密码"]),
        ("中华人民共和国", ["中华", "华人", "人民", "共和", "共和国", "中华人民共和国"]),
        ("Resizing partitions", ["resiz", "partit"]),
        ("apt-get", ["apt-get", "apt", "get"]),
        ("/etc/fstab", ["etc/fstab", "etc", "fstab"]),
        ("snake_case_name", ["snake_case_name", "snake", "case", "name"]),
        ("用systemctl重启", ["用", "systemctl", "重启"]),
        ("Ünïcode CAFÉ", ["unicod", "cafe"]),
        ("パスワード", ["パ", "ス", "ワ", "ー", "ド"]),
        ("!?… 🙂", []),
        ("x" * 65, []),
    ],
)
def test_texts_are_cut_into_terms(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_compound_stands_where_its_first_part_stands() -> None:
    assert list(terms("run apt-get now")) == [
        (1, "run"), (2, "apt-get"), (2, "apt"), (3, "get"), (4, "now"),
    ]  # fmt: skip
