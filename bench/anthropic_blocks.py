"""The events of the blocks in a streamed message of Anthropic's."""

import msgspec

from bench.openai_wire import ToolCall


def named_event(name: str, data: bytes) -> bytes:
    """Return one server-sent event as the API sends it."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def block_delta(index: int, delta: dict[str, object]) -> bytes:
    """Return the data of a piece of a block."""
    return msgspec.json.encode({"type": "content_block_delta", "index": index, "delta": delta})


def block_start(index: int, block: dict[str, object]) -> bytes:
    """Return the event that opens a block."""
    data = {"type": "content_block_start", "index": index, "content_block": block}
    return named_event("content_block_start", msgspec.json.encode(data))


def block_stop(index: int) -> bytes:
    """Return the event that closes a block."""
    data = {"type": "content_block_stop", "index": index}
    return named_event("content_block_stop", msgspec.json.encode(data))


def _block(index: int, block: dict[str, object], deltas: list[dict[str, object]]) -> list[bytes]:
    pieces = [named_event("content_block_delta", block_delta(index, delta)) for delta in deltas]
    return [block_start(index, block), *pieces, block_stop(index)]


def text_block(index: int, words: list[str]) -> list[bytes]:
    """Return the events of a block of text."""
    deltas: list[dict[str, object]] = [{"type": "text_delta", "text": word} for word in words]
    return _block(index, {"type": "text", "text": ""}, deltas)


def thinking_block(index: int, thoughts: int) -> list[bytes]:
    """Return the events of a block of thoughts, signed at its end."""
    deltas: list[dict[str, object]] = [
        {"type": "thinking_delta", "thinking": f"thought {number} "} for number in range(thoughts)
    ]
    deltas.append({"type": "signature_delta", "signature": "c2lnbmF0dXJl"})
    return _block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)


def tool_block(index: int, call: ToolCall) -> list[bytes]:
    """Return the events of a call of a tool."""
    half = len(call.arguments) // 2
    parts = ["", call.arguments[:half], call.arguments[half:]]
    deltas: list[dict[str, object]] = [
        {"type": "input_json_delta", "partial_json": part} for part in parts
    ]
    block: dict[str, object] = {
        "type": "tool_use", "id": call.call_id, "name": call.name, "input": {},
    }  # fmt: skip
    return _block(index, block, deltas)
