"""Contexts and their versions: messages to JSON bodies."""

from meshwright.session.v1 import context_snapshot_pb2, session_pb2
from meshwright_gateway.http.schemas import contexts as schemas
from meshwright_gateway.wire import values


def context_view(context: session_pb2.Context) -> schemas.Context:
    """Return a context as JSON shows it."""
    return schemas.Context(
        session_id=context.session_id,
        version=context.version,
        data=values.object_from(context.data),
        update_time=values.time_from(context.update_time),
    )


def snapshot_view(snapshot: context_snapshot_pb2.ContextSnapshot) -> schemas.ContextSnapshot:
    """Return a version that is kept as JSON shows it."""
    return schemas.ContextSnapshot(
        version=snapshot.version,
        create_time=values.moment_from(snapshot.create_time),
        size_bytes=snapshot.size_bytes,
    )
