"""Names of uploaded files."""

import pytest

from meshwright_common.errors import InvalidArgument
from meshwright_rag.domain.uploads import display_name


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("manual.pdf", "manual.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\报告.docx", "报告.docx"),
        ("folder/", "folder"),
        ("-rf", "-rf"),
        ("  spaced name.txt ", "spaced name.txt"),
    ],
)
def test_a_name_loses_its_folders(given: str, shown: str) -> None:
    assert display_name(given) == shown


@pytest.mark.parametrize(
    "name", ["", "..", "/", "a\x00.txt", "a\n.txt", "x\u202efdp.exe", "n" * 256]
)
def test_a_name_that_deceives_or_says_nothing_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        display_name(name)
    assert error.value.field_violations[0].field == "header.name"
