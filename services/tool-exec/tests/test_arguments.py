"""Arguments written by a model are checked before anything runs (S-33, F-57)."""

import pytest

from meshwright_tool_exec.builtin.calculator import SPEC
from meshwright_tool_exec.domain import arguments
from meshwright_tool_exec.domain.errors import ToolArgumentsInvalid


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"text"',
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        "[" * 100 + "]" * 100,
        '{"a": "' + "x" * arguments.MAX_ARGUMENT_BYTES + '"}',
        "\ud800",
    ],
)
def test_text_that_is_no_json_object_is_refused_by_name(text: str) -> None:
    with pytest.raises(ToolArgumentsInvalid) as refused:
        arguments.parse(text)
    assert "arguments_json" == refused.value.field_violations[0].field


def test_empty_text_means_no_arguments() -> None:
    assert {} == arguments.parse("")


def test_every_field_that_does_not_fit_is_named() -> None:
    with pytest.raises(ToolArgumentsInvalid) as refused:
        arguments.check({"expression": 5, "extra": 1}, SPEC.input_schema)
    fields = {violation.field for violation in refused.value.field_violations}
    assert {"expression", "arguments"} == fields
