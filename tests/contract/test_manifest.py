"""The manifest and the tests agree: each promise has a test, each marked test has a promise."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_every_promise_has_a_test() -> None:
    assert sorted(promises() - set(marked())) == []


def test_every_marked_test_has_a_promise() -> None:
    assert sorted(set(marked()) - promises()) == []


def test_no_promise_stands_in_two_areas() -> None:
    ids = [promise for area in areas().values() for promise in area]
    assert sorted({promise for promise in ids if ids.count(promise) > 1}) == []


def test_every_promise_says_what_and_from_where() -> None:
    vague = [
        promise
        for area in areas().values()
        for promise, (text, source) in area.items()
        if not text.endswith(".") or not source
    ]
    assert vague == []


def areas() -> dict[str, dict[str, tuple[str, str]]]:
    found: dict[str, dict[str, tuple[str, str]]]
    found = runpy.run_path(str(HERE / "requirements.py"))["AREAS"]
    return found


def promises() -> set[str]:
    return {promise for area in areas().values() for promise in area}


def marked() -> Iterator[str]:
    """Yield the ids of `pytest.mark.promise(...)` in all tests, read from the syntax tree."""
    for path in (*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("*/*/tests/**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.promise":
                for argument in node.args:
                    yield ast.literal_eval(argument)
