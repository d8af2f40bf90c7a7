"""JSON in the one form of RFC 8785 (JCS): the same value is the same bytes, so it can be hashed.

Values come from protobuf's Struct or from JSON text: every number counts as a double.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from json.encoder import encode_basestring


def canonical(value: object) -> str:
    """Return `value` as canonical JSON. Raises: ValueError for what JSON cannot say."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        # What json.dumps calls, which makes an encoder for every text.
        return encode_basestring(value)
    if isinstance(value, int | float):
        return _number(float(value))
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    raise ValueError(f"not a JSON value: {type(value).__name__}")


def _object(value: Mapping[object, object]) -> str:
    members: list[tuple[str, object]] = []
    for name, item in value.items():
        if not isinstance(name, str):
            raise ValueError("the name of a JSON member is a string")
        members.append((name, item))
    # By UTF-16 code units, as JCS demands; only astral characters sort differently.
    members.sort(key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(f"{canonical(name)}:{canonical(item)}" for name, item in members) + "}"


def _number(value: float) -> str:
    """Write a double as ECMAScript does: shortest digits, exponents from 1e21 and below 1e-6."""
    if not math.isfinite(value):
        raise ValueError("JSON has no infinite numbers")
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    point = len(text) + int(exponent)
    if 0 < point <= 21:
        text = text.ljust(point, "0")
        text = text if len(text) == point else f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        rest = f".{text[1:]}" if len(text) > 1 else ""
        text = f"{text[0]}{rest}e{point - 1:+d}"
    return f"-{text}" if sign else text
