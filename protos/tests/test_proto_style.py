"""House rules for protos that buf does not know: they are the reference documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshwright.errors.v1.error_reason_pb2 import ErrorReason

PROTOS = Path(__file__).resolve().parents[1]

MAX_FILE_LINES = 300
"""A proto is read as a whole, like a page of a manual."""

MAX_LINE_LENGTH = 100
"""As in the code."""

ELEMENT = re.compile(
    r"\s*(?:"
    r"(?:message|enum|service|rpc)\s+\w+"
    r"|(?:(?:optional|repeated)\s+)?[\w.]+(?:<[\w., ]+>)?\s+\w+\s*=\s*\d+"  # a field
    r"|[A-Z][A-Z0-9_]*\s*=\s*\d+"  # a value of an enum
    r")"
)

RPC_COMMENT = re.compile(r"((?:^ *//.*\n)+) *rpc (\w+)", re.MULTILINE)

REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
"""A reason in a comment. Those of one word ("CONFLICT") look like states, and are left alone."""

FILES = {
    str(path.relative_to(PROTOS)): path for path in sorted(PROTOS.glob("meshwright/**/*.proto"))
}


@pytest.mark.parametrize("name", FILES)
def test_proto_is_short_enough_to_read(name: str) -> None:
    lines = FILES[name].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_FILE_LINES
    assert [line for line in lines if len(line) > MAX_LINE_LENGTH] == []


@pytest.mark.parametrize("name", FILES)
def test_every_element_is_documented(name: str) -> None:
    lines = FILES[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("// "), "the first line says what the file is about"
    bare = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(lines, start=1)
        if ELEMENT.match(line) and not lines[number - 2].lstrip().startswith("//")
    ]
    assert bare == []


@pytest.mark.parametrize("name", [name for name in FILES if "_service.proto" in name])
def test_errors_named_by_a_method_are_known_reasons(name: str) -> None:
    """Callers switch on the reason: one that does not exist sends them into the default branch."""
    known = {name.removeprefix("ERROR_REASON_") for name, _ in ErrorReason.items()}
    unknown = [
        f"{method}: {reason}"
        for comment, method in RPC_COMMENT.findall(FILES[name].read_text(encoding="utf-8"))
        for reason in reasons(comment)
        if reason not in known
    ]
    assert unknown == []


def reasons(comment: str) -> list[str]:
    """Return the reasons that follow "Errors:" in the comment of a method."""
    text = re.sub(r"\n *// ?", " ", comment).partition("Errors:")[2]
    return REASON.findall(text)
