"""Windows as Redis keeps them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from meshwright.session.v1 import checkpoint_pb2
from meshwright_session.domain.models import StoredMessage
from meshwright_session.domain.windows import Stamp, Window

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def encode(window: Window, after_sequence: int) -> bytes:
    """Return a window's stamp and its messages behind a sequence."""
    time = window.context.update_time
    return checkpoint_pb2.Checkpoint(
        message_count=window.stamp.message_count,
        context_version=window.stamp.context_version,
        data_version=window.data_version,
        update_time_micros=_micros(window.stamp.update_time),
        context_time_micros=0 if time is None else _micros(time),
        reaches_back=window.reaches_back,
        messages=[
            checkpoint_pb2.CheckpointMessage(
                message_id=message.message_id,
                sequence=message.sequence,
                turn_id=message.turn_id or "",
                content=message.content,
                create_time_micros=_micros(message.create_time),
            )
            for message in window.messages
            if message.sequence > after_sequence
        ],
    ).SerializeToString()


def decode(encoded: bytes) -> checkpoint_pb2.Checkpoint:
    """Return a checkpoint. Raises: google.protobuf.message.DecodeError."""
    return checkpoint_pb2.Checkpoint.FromString(encoded)


def joined(
    session_id: str, checkpoints: Sequence[checkpoint_pb2.Checkpoint]
) -> tuple[list[StoredMessage], checkpoint_pb2.Checkpoint]:
    """Return the messages of checkpoints that reach each other, and the last one that does."""
    first, *others = checkpoints
    found = list(first.messages)
    last = first
    for one in sorted(others, key=lambda other: other.message_count):
        following = one.message_count > last.message_count
        if following and one.messages and one.messages[0].sequence <= last.message_count + 1:
            found += [message for message in one.messages if message.sequence > last.message_count]
            last = one
    messages = [
        StoredMessage(
            message_id=message.message_id,
            session_id=session_id,
            sequence=message.sequence,
            turn_id=message.turn_id or None,
            content=message.content,
            create_time=moment(message.create_time_micros),
        )
        for message in found
    ]
    return messages, last


def stamp_of(checkpoint: checkpoint_pb2.Checkpoint) -> Stamp:
    """Return the stamp that a checkpoint was made at."""
    return Stamp(
        checkpoint.message_count,
        checkpoint.context_version,
        moment(checkpoint.update_time_micros),
    )


def moment(micros: int) -> datetime:
    """Return a point in time."""
    return _EPOCH + micros * _MICROSECOND


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND
