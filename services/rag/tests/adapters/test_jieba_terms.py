"""Words for full text."""

import pytest

from meshwright_rag.adapters.jieba_terms import query_terms, quoted, terms, tsvector


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


def test_a_query_looks_for_what_carries_meaning() -> None:
    assert query_terms("How do I reset the password?").single == ("reset", "password")
    assert query_terms("忘记密码怎么办？").single == ("忘记", "密码")


def test_a_query_of_common_words_looks_for_them() -> None:
    assert query_terms("who is who").single == ("who", "is")


def test_a_query_knows_which_words_stand_together() -> None:
    assert query_terms("reset the root password").pairs == (
        ("reset", 2, "root"), ("root", 1, "password"),
    )  # fmt: skip


def test_an_indexed_passage_holds_positions_of_its_words_and_weights_of_headings() -> None:
    literal, count = tsvector("The setup of setup", ("Setup",))
    assert (literal, count) == ("'setup':16383A,2,4 'the':1 'of':3", 4)


def test_no_term_can_leave_its_quotes() -> None:
    assert quoted("a'b\\c") == "'a''b\\\\c'"
