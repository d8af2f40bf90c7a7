"""A token between its provider and a client that keeps up, and one that does not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from meshwright.chat.v1 import turn_pb2
from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright_common.testing.waiting import eventually
from services.gateway.tests.events import Event, parse
from services.gateway.tests.peers import USAGE, Script, numbered
from services.gateway.tests.platform import Platform, running

pytestmark = pytest.mark.asyncio

COMPLETION = "/v1/chat/completions"
RECEIVE_BUFFER_BYTES = 4096


@dataclass
class Produced:
    """Texts for a model, and how many of them it has given."""

    texts: list[str]
    count: int = 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.count += 1
            yield text


async def ask(
    platform: Platform, path: str, body: object
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request over a connection whose client can hold next to nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    client.setblocking(False)
    host, port = platform.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=client, limit=RECEIVE_BUFFER_BYTES)
    data = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json"]
    head += [f"authorization: Bearer {platform.key}", "connection: close"]
    head += [f"content-length: {len(data)}", "", ""]
    writer.write("\r\n".join(head).encode() + data)
    return reader, writer


async def events_of(reader: asyncio.StreamReader) -> list[Event]:
    """Read a chunked stream of events to its end."""
    await reader.readuntil(b"\r\n\r\n")
    body = b""
    while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return parse(body.decode().replace("data: [DONE]\n\n", ""))


def completion(**more: object) -> dict[str, object]:
    return {
        "model": "m",
        "stream": True,
        "messages": [{"role": "user", "content": "a"}],
        **more,
    }


def contents(events: list[Event]) -> list[str]:
    deltas = [event.data["choices"][0]["delta"] for event in events if event.data["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


@pytest.mark.promise("STREAM-01")
async def test_every_token_reaches_a_client_that_keeps_up_before_the_next_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model waits for the client: whatever held a token back would hold both for ever."""
    seen = [asyncio.Event() for _ in range(20)]

    async def in_step(
        request: model_service_pb2.GenerateRequest,
    ) -> AsyncIterator[generation_pb2.GenerateEvent]:
        yield generation_pb2.GenerateEvent(
            started=generation_pb2.GenerateStarted(model="m", deployment="d")
        )
        for number, came in enumerate(seen):
            delta = generation_pb2.GenerateDelta(text=f"<{number}>")
            yield generation_pb2.GenerateEvent(delta=delta)
            await came.wait()
        yield generation_pb2.GenerateEvent(
            finished=generation_pb2.GenerateFinished(
                finish_reason=generation_pb2.FINISH_REASON_STOP, usage=USAGE
            )
        )

    async with running() as platform:
        monkeypatch.setattr(platform.peers.models, "_events", in_step)
        reader, writer = await ask(platform, COMPLETION, completion())
        for number, came in enumerate(seen):
            read = await asyncio.wait_for(reader.readuntil(b"<%d>" % number), 20)
            assert read.count(b"<") == 1
            came.set()
        await reader.read()
        writer.close()


@pytest.mark.promise("STREAM-02")
async def test_tokens_for_a_client_that_does_not_read_leave_together_and_whole() -> None:
    async with running() as platform:
        produced = Produced([f"<{number:05d}>" for number in range(6000)])
        platform.peers.models.texts = produced  # type: ignore[assignment]
        reader, writer = await ask(
            platform, COMPLETION, completion(stream_options={"include_usage": True})
        )
        await eventually(lambda: produced.count == len(produced.texts))

        events = await asyncio.wait_for(events_of(reader), 20)

        pieces = contents(events)
        assert "".join(pieces) == "".join(produced.texts)
        # The first ones left alone, while there was room.
        assert pieces[:3] == produced.texts[:3]
        assert len(pieces) < len(produced.texts) / 4
        assert events[-2].data["choices"][0]["finish_reason"] == "stop"
        assert events[-1].data["usage"]["completion_tokens"] == USAGE.completion_tokens
        writer.close()


@pytest.mark.promise("STREAM-03")
async def test_merged_text_of_a_turn_has_the_id_of_its_last_part() -> None:
    async with running() as platform:
        texts = [f"<{number:05d}>" for number in range(5000)]
        thoughts = [
            turn_pb2.TurnEvent(reasoning_delta=turn_pb2.ReasoningDelta(text=f"({number})"))
            for number in range(1000)
        ]
        deltas = [
            turn_pb2.TurnEvent(message_delta=turn_pb2.MessageDelta(text=text)) for text in texts
        ]
        end = turn_pb2.TurnEvent(completed=turn_pb2.TurnCompleted(answer="x"))
        whole = [*thoughts, *deltas, end]
        platform.peers.chat.script = lambda turn_id, _: Script(numbered(turn_id, whole))
        reader, writer = await ask(platform, "/api/v1/chat", {"message": "a"})
        # Told only when nothing more is on its way: the last event waits for the reader.
        await eventually(lambda: platform.peers.chat.open_streams == 1)

        events = await asyncio.wait_for(events_of(reader), 20)

        said = [event for event in events if event.name == "message.delta"]
        thought = [event for event in events if event.name == "reasoning.delta"]
        assert "".join(event.data["text"] for event in said) == "".join(texts)
        assert "".join(event.data["text"] for event in thought).count("(") == len(thoughts)
        assert (thought[-1].sequence, said[-1].sequence) == (len(thoughts), len(whole) - 1)
        for event in said:
            last = int(event.data["text"][-6:-1])
            assert event.sequence == len(thoughts) + last + 1
        assert events[-1].name == "turn.completed"
        writer.close()
