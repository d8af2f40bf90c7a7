"""Whether the input of a run fits its workflow."""

from collections.abc import Mapping
from typing import Final

import orjson

from meshwright_common.errors import invalid
from meshwright_orchestrator.domain import output_schema
from meshwright_orchestrator.domain.conversation import JsonObject

MAX_INPUT_BYTES: Final = 256 * 1024


def check_input(given: Mapping[str, object], schema: JsonObject | None) -> None:
    """Raises: InvalidArgument when an input is too large or does not fit the schema."""
    size = len(orjson.dumps(given))
    if size > MAX_INPUT_BYTES:
        raise invalid("input", f"must be at most {MAX_INPUT_BYTES} bytes as JSON, has {size}")
    if schema is None:
        return
    if wrong := output_schema.wrong_value(given, schema):
        raise invalid("input", wrong)
