"""Contexts, and the versions that are kept of them."""

from collections.abc import Iterable
from typing import Final

import jsonpatch
import orjson

from meshwright.session.v1 import context_snapshot_pb2, session_pb2, session_service_pb2
from meshwright_common.errors import invalid
from meshwright_session.domain.context_ports import KeptVersion
from meshwright_session.domain.models import Context, JsonObject
from meshwright_session.wire import values
from meshwright_session.wire.messages import MAX_CONTEXT_BYTES

MAX_COMPARED_BYTES: Final = 8 * 1024
"""Two values that are compared to their depths: the time grows with the square of it."""
MAX_COMPARED_TOGETHER_BYTES: Final = 64 * 1024


def context_message(context: Context) -> session_pb2.Context:
    """Return a context as the wire shows it."""
    return session_pb2.Context(
        session_id=context.session_id,
        version=context.version,
        data=values.struct(context.data),
        update_time=values.timestamp(context.update_time),
    )


def snapshot_messages(
    versions: Iterable[KeptVersion],
) -> list[context_snapshot_pb2.ContextSnapshot]:
    """Return versions as the wire shows them."""
    return [
        context_snapshot_pb2.ContextSnapshot(
            version=one.version,
            create_time=values.timestamp(one.create_time),
            size_bytes=one.size_bytes,
        )
        for one in versions
    ]


def data(request: session_service_pb2.CompareAndSetContextRequest) -> JsonObject:
    """Return the data to write. Raises: InvalidArgument."""
    return values.json_object(request.data, "data", most_bytes=MAX_CONTEXT_BYTES)


def version(value: int, field: str) -> int:
    """Return a context's version. Raises: InvalidArgument."""
    if value < 0:
        raise invalid(field, "must not be negative")
    return value


def json_patch(before: JsonObject, after: JsonObject) -> str:
    """Return a JSON Patch (RFC 6902) that leads from one to the other.

    Members of the object that are small are compared to their depths, as long as all of them
    together are; any other that differs is replaced whole. So it takes some hundred milliseconds
    at most.
    """
    operations: list[object] = []
    left = MAX_COMPARED_TOGETHER_BYTES
    for name, value in before.items():
        if name not in after:
            operations.append({"op": "remove", "path": _pointer(name)})
            continue
        was, now = (orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in (value, after[name]))
        if was == now:
            continue
        size = len(was) + len(now)
        if size > min(MAX_COMPARED_BYTES, left) or not isinstance(value, dict | list):
            operations.append({"op": "replace", "path": _pointer(name), "value": after[name]})
        else:
            left -= size
            operations += jsonpatch.make_patch({name: value}, {name: after[name]}).patch
    operations += [
        {"op": "add", "path": _pointer(name), "value": value}
        for name, value in after.items()
        if name not in before
    ]
    return orjson.dumps(operations).decode()


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
