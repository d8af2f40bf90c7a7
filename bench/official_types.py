"""Checks values against the types of the providers' own clients."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter


def check(adapter: TypeAdapter[Any], value: Mapping[str, object]) -> None:
    """Raise pydantic's ValidationError unless `value` fits, to its depths, and holds no more."""
    _exhaust(adapter.validate_python(value, extra="forbid"))


def _exhaust(value: object) -> None:
    # What the types call Iterable is checked only while it is read.
    if isinstance(value, Mapping):
        for inner in value.values():
            _exhaust(inner)
    elif isinstance(value, list | tuple | Iterator):
        for inner in value:
            _exhaust(inner)
