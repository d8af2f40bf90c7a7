"""Contexts, and the versions that are kept of them."""

from collections.abc import Iterable

import jsonpatch

from meshwright.session.v1 import context_snapshot_pb2, session_pb2, session_service_pb2
from meshwright_common.errors import invalid
from meshwright_session.domain.context_ports import KeptVersion
from meshwright_session.domain.models import Context, JsonObject
from meshwright_session.wire import values
from meshwright_session.wire.messages import MAX_CONTEXT_BYTES


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
    """Return the JSON Patch (RFC 6902) that leads from one to the other. Takes its time."""
    return jsonpatch.make_patch(before, after).to_string()
