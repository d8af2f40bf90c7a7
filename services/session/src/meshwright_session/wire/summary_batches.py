"""Messages of a batch that is to be summarised: short enough to be told in one piece."""

from collections.abc import Sequence
from typing import Final

from meshwright.session.v1 import session_pb2
from meshwright_session.domain.models import StoredMessage
from meshwright_session.wire import messages as wire

MOST_BYTES: Final = 2 * 1024 * 1024
"""Of all texts of a batch together; gRPC takes 4 MiB."""
LEAST_BYTES: Final = 2 * 1024


def shortened(messages: Sequence[StoredMessage]) -> list[session_pb2.StoredMessage]:
    """Return messages as the wire shows them: images without their bytes, long texts cut."""
    told = wire.stored_messages(messages)
    most = max(MOST_BYTES // max(len(told), 1), LEAST_BYTES)
    for one in told:
        for part in one.message.parts:
            if part.WhichOneof("kind") == "text":
                part.text = _cut(part.text, most)
            elif part.image.data:
                part.image.ClearField("data")
        for call in one.message.tool_calls:
            call.arguments_json = _cut(call.arguments_json, most)
        for citation in one.citations:
            citation.ClearField("quote")
    return told


def _cut(text: str, most_bytes: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= most_bytes else encoded[:most_bytes].decode(errors="ignore")
