"""The manifest and the tests agree: each promise has a test, each marked test has a promise."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Final

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MARK: Final = re.compile(r"""^[^#"'\n]*pytest\.mark\.promise(\([^)]*\))""", re.MULTILINE)
"""A mark with its arguments; not one that stands in a comment or a text."""


def test_every_promise_has_a_test() -> None:
    assert sorted(promises() - marked()) == []


def test_every_marked_test_has_a_promise() -> None:
    assert sorted(marked() - promises()) == []


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


@cache
def marked() -> frozenset[str]:
    """Return the ids of `pytest.mark.promise(...)` in all tests.

    Read from the text: syntax trees of all tests take ten times as long.
    """
    found: set[str] = set()
    for path in (*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("*/*/tests/**/test_*.py")):
        for arguments in MARK.findall(path.read_text(encoding="utf-8")):
            ids = ast.literal_eval(arguments)
            found.update((ids,) if isinstance(ids, str) else ids)
    return frozenset(found)
