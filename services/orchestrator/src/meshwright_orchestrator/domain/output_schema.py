"""Output of agents that answer with data: which schemas they may have, and what fits one.

JSON Schema 2020-12, checked by jsonschema. Both the schema and what is checked are written by
others, so a check ends after MAX_CHECKS keywords or MAX_NESTED inside each other, and patterns are
matched by RE2, whose time is linear in the text.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson
import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from meshwright_orchestrator.domain.conversation import JsonObject

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_OUTPUT_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 64
MAX_CHECKS: Final = 20_000
MAX_NESTED: Final = 100
"""Each takes three frames of Python's stack, which holds 1 000."""
MAX_DIGITS: Final = 300
"""Of a whole number: an output's numbers are doubles on the wire."""
MAX_TOLD: Final = 5
"""Violations that a model is told of, to mend its answer."""
MAX_TOLD_CHARACTERS: Final = 300
_REFERENCES: Final = ("$ref", "$dynamicRef")
_REFUSED: Final = ("$id", "$anchor", "$dynamicAnchor", "patternProperties")


@dataclass(slots=True)
class _Room:
    checks: int = MAX_CHECKS
    nested: int = MAX_NESTED


_room: ContextVar[_Room] = ContextVar("_room")


class _TooMuch(Exception):
    """The check took more than it may."""


def _counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        room = _room.get()
        room.checks -= 1
        room.nested -= 1
        if room.checks < 0 or room.nested < 0:
            raise _TooMuch
        try:
            yield from keyword(validator, value, instance, schema) or ()
        finally:
            room.nested += 1

    return check


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield ValidationError(f"{instance[:50]!r} does not match {pattern!r}")


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    # By their texts: comparing each with each takes minutes for what a model can write.
    if wanted and isinstance(instance, list):
        texts = {json.dumps(item, sort_keys=True) for item in instance}
        if len(texts) < len(instance):
            yield ValidationError("has non-unique elements")


_KEYWORDS: Final = {
    **Draft202012Validator.VALIDATORS,
    "pattern": _pattern,
    "uniqueItems": _unique_items,
}
_Validator: Final[Any] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {name: _counted(keyword) for name, keyword in _KEYWORDS.items()}
)


def wrong_with(schema: JsonObject) -> str:
    """Return what is wrong with a schema of outputs, empty for a good one."""
    size = len(orjson.dumps(schema))
    if size > MAX_SCHEMA_BYTES:
        return f"must be at most {MAX_SCHEMA_BYTES} bytes as JSON, has {size}"
    if schema.get("$schema", DRAFT) != DRAFT:
        return f"$schema must be {DRAFT}, or absent"
    if schema.get("type") != "object":
        return 'its type must be "object": an output is a JSON object'
    if wrong := _wrong_inside(schema, 0):
        return wrong
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"is no JSON Schema: {error.message[:MAX_TOLD_CHARACTERS]}"
    return _wrong_references(schema)


def _wrong_inside(value: object, depth: int) -> str:
    if depth > MAX_DEPTH:
        return f"must nest at most {MAX_DEPTH} levels"
    if isinstance(value, Mapping):
        if wrong := _wrong_keywords(value):
            return wrong
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return ""
    return next(filter(None, (_wrong_inside(one, depth + 1) for one in inner)), "")


def _wrong_keywords(schema: Mapping[str, object]) -> str:
    for name in _REFUSED:
        # A property may have such a name: its value is a schema there, no text or list of them.
        if name in schema and (
            isinstance(schema[name], str)
            or (name == "patternProperties" and "properties" not in schema)
        ):
            return f"{name} is not supported"
    for name in _REFERENCES:
        target = schema.get(name)
        if isinstance(target, str) and not target.startswith("#"):
            return f"{name} must stay inside the schema, as in #/$defs/…"
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        try:
            _compiled(pattern)
        except re2.error:
            return "pattern must be a regular expression in RE2's syntax"
    return ""


def _wrong_references(schema: JsonObject) -> str:
    resource = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    for target in _targets(schema):
        try:
            resolver.lookup(target)
        except Unresolvable:
            return f"$ref {target[:MAX_TOLD_CHARACTERS]} leads nowhere"
    return ""


def _targets(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name in _REFERENCES and isinstance(inner, str):
                yield inner
            yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


def read(text: str, schema: JsonObject) -> tuple[JsonObject | None, str]:
    """Return the output that a model wrote, or what is wrong with it for the model to mend."""
    if len(text.encode()) > MAX_OUTPUT_BYTES:
        return None, f"the answer must be at most {MAX_OUTPUT_BYTES} bytes"
    try:
        value = json.loads(
            _bare(text), parse_constant=_no_constant, parse_float=_number, parse_int=_whole
        )
    except (ValueError, RecursionError):
        return None, "the answer must be one JSON object and nothing else"
    if not isinstance(value, dict):
        return None, "the answer must be a JSON object"
    wrong = _violations(value, schema)
    return (None, wrong) if wrong else (value, "")


def wrong_value(value: object, schema: JsonObject) -> str:
    """Return what of a JSON value does not fit a schema, empty when all does."""
    return _violations(value, schema)


def _bare(text: str) -> str:
    """Return the text without the fence that models like to put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3].strip()
    return text


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _number(text: str) -> float | int:
    """Return 1 for 1.0: they are the same number in JSON Schema."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("too large")
    return int(value) if value.is_integer() else value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("too large")
    return int(text)


def _violations(value: object, schema: JsonObject) -> str:
    token = _room.set(_Room())
    told: list[str] = []
    try:
        for error in _Validator(schema).iter_errors(value):
            deepest = best_match([error]) or error
            path = deepest.json_path.removeprefix("$.").removeprefix("$")
            told.append(f"{path or 'the answer'}: {deepest.message[:MAX_TOLD_CHARACTERS]}")
            if len(told) == MAX_TOLD:
                break
    except _TooMuch:
        return "the answer is too large or too deep to be checked against the schema"
    finally:
        _room.reset(token)
    return "; ".join(told)
