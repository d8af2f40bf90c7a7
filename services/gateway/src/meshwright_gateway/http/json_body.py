"""Reading JSON that strangers wrote: strict syntax, bounded depth, no name twice."""

import json
from collections.abc import Sequence
from typing import Final, NoReturn, TypeAlias

import orjson

from meshwright_common.errors import InvalidArgument
from meshwright_gateway.errors import ShapeRefused, UnsupportedMediaType

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH: Final = 64
MAX_NAMES: Final = 10_000
MAX_STRUCT_DEPTH: Final = 30
"""Of objects that go on as protobuf Structs: one level takes three of a parser's hundred."""

_HINT: Final = "send content-type: application/json"


def check_json_type(content_type: bytes | None, content_encoding: bytes | None) -> None:
    """Accept JSON in UTF-8, not compressed. Raises: UnsupportedMediaType."""
    if content_encoding is not None and content_encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("content-encoding is not taken: send the body as it is")
    if content_type is None:
        raise UnsupportedMediaType(f"content-type is missing: {_HINT}")
    if content_type == b"application/json":
        return
    kind, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    if kind != b"application/json" and not (
        kind.startswith(b"application/") and kind.endswith(b"+json")
    ):
        raise UnsupportedMediaType(f"this route takes JSON: {_HINT}")
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name == b"charset" and value.strip(b'"') not in (b"utf-8", b"utf8"):
            raise UnsupportedMediaType("JSON is UTF-8: leave the charset out")


def parse_json(body: bytes) -> Json:
    """Return the value that `body` holds.

    Raises: InvalidArgument when it is no JSON (also NaN, lone surrogates, invalid UTF-8, numbers
    out of range); ShapeRefused when it is nested deeper than 64, has more than 10 000 names, the
    same name twice in one object, or the character NUL.
    """
    try:
        value: Json = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _refuse_syntax(body, error)
    _measure(body, value)
    return value


def parse_json_object(body: bytes) -> dict[str, Json]:
    """Return the object that `body` holds. Raises: as `parse_json`, and for any other value."""
    value = parse_json(body)
    if not isinstance(value, dict):
        raise ShapeRefused("the body must be a JSON object")
    return value


def check_struct_depth(content: dict[str, Json]) -> dict[str, Json]:
    """Return `content`. Raises: ValueError when it is nested too deeply for a protobuf Struct."""
    depth = 0
    level: list[Json] = [content]
    while level:
        depth += 1
        if depth > MAX_STRUCT_DEPTH:
            raise ValueError(f"must not be nested deeper than {MAX_STRUCT_DEPTH}")
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else _items(container))
            if isinstance(item, dict | list)
        ]
    return content


def _items(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _refuse_syntax(body: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    if not body:
        raise InvalidArgument("the body is empty: send a JSON object") from None
    if "depth limit" in error.msg:
        raise ShapeRefused(f"the body is nested deeper than {MAX_DEPTH}") from None
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        raise InvalidArgument(f"the body is not UTF-8: byte {wrong.start} is invalid") from None
    raise InvalidArgument(f"the body is not JSON: {error}") from None


def _measure(body: bytes, value: Json) -> None:
    names = 0
    depth = 0
    level: Sequence[Json] = (value,)
    while True:
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                names += len(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            break
        depth += 1
        if depth > MAX_DEPTH:
            raise ShapeRefused(f"the body is nested deeper than {MAX_DEPTH}")
        if names > MAX_NAMES:
            raise ShapeRefused(f"the body has more than {MAX_NAMES} names")
        level = below
    # Each name brings a colon. As many colons as names: no name was lost, so none came twice.
    if body.count(b":") != names:
        json.loads(body, object_pairs_hook=_refuse_twins)
    if rb"\u0000" in body:
        _refuse_nul(value)


def _refuse_twins(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ShapeRefused(f"the name {name[:100]!r} stands twice in one object")
        seen.add(name)


def _refuse_nul(value: Json) -> None:
    pending: list[Json] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, str) and "\0" in item:
            raise ShapeRefused("text must not hold the character NUL")
