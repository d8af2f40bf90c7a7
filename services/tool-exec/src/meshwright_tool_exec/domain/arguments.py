"""Arguments that a model wrote: parsed and checked against the tool's schema."""

import json
from collections.abc import Iterator
from typing import Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from meshwright_common.errors import FieldViolation
from meshwright_tool_exec.domain.errors import ToolArgumentsInvalid
from meshwright_tool_exec.domain.models import JsonObject

MAX_ARGUMENT_BYTES: Final = 256 * 1024
"""Largest arguments text accepted, in bytes of UTF-8."""

MAX_DEPTH: Final = 64
"""Deepest nesting accepted; the parser itself would recurse."""

MAX_VIOLATIONS: Final = 10
"""Violations reported at once: enough to mend a call in one go."""


def parse(arguments_json: str) -> dict[str, object]:
    """Return the arguments object; empty text means no arguments.

    Raises: ToolArgumentsInvalid when the text is too long, too deep, no JSON, or no object.
    """
    size = len(arguments_json.encode("utf-8", "surrogatepass"))
    if size > MAX_ARGUMENT_BYTES:
        raise _wrong("arguments_json", f"must be at most {MAX_ARGUMENT_BYTES} bytes, has {size}")
    if _depth(arguments_json) > MAX_DEPTH:
        raise _wrong("arguments_json", f"must nest at most {MAX_DEPTH} levels")
    try:
        value = json.loads(
            arguments_json or "{}", object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise _wrong("arguments_json", f"is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise _wrong("arguments_json", "must be a JSON object")
    return value


def check(arguments: dict[str, object], schema: JsonObject) -> None:
    """Raise ToolArgumentsInvalid naming every field that does not fit `schema`, one of ours."""
    report(Draft202012Validator(dict(schema)).iter_errors(arguments))


def report(errors: Iterator[ValidationError]) -> None:
    """Raise ToolArgumentsInvalid naming the fields of up to MAX_VIOLATIONS errors, if any."""
    violations = tuple(_violations(errors))
    if violations:
        text = "; ".join(f"{v.field}: {v.description}" for v in violations)
        raise ToolArgumentsInvalid(text, field_violations=violations)


def _violations(errors: Iterator[ValidationError]) -> Iterator[FieldViolation]:
    for count, error in enumerate(errors):
        if count == MAX_VIOLATIONS:
            return
        path = ".".join(str(part) for part in error.absolute_path)
        yield FieldViolation(path or "arguments", error.message[:500])


def _wrong(field: str, description: str) -> ToolArgumentsInvalid:
    return ToolArgumentsInvalid(
        f"{field} {description}", field_violations=(FieldViolation(field, description),)
    )


def _depth(text: str) -> int:
    # A bound, not a parse: brackets inside strings only make it stricter than need be.
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
