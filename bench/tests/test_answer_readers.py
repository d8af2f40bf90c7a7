"""Tokens are counted rightly however a gateway cuts or merges the stream."""

import pytest

from bench.answer_readers import CompletionStreamReader, TransitTimes, TurnStreamReader
from bench.openai_wire import DONE, STAMP_MODULUS, Chunks, event, token


def _stream(tokens: int) -> bytes:
    chunks = Chunks(model="sim", completion_id="c", created=1, include_usage=False)
    content = b"".join(event(chunks.content(token(at).decode())) for at in range(tokens))
    return event(chunks.role()) + content + event(chunks.finish("stop")) + DONE


@pytest.mark.parametrize("size", [1, 3, 7, 100, 10_000])
def test_tokens_in_any_pieces_are_counted_once(size: int) -> None:
    transit = TransitTimes()
    reader = CompletionStreamReader(transit, expected=20)
    stream = _stream(20)

    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size], now=1000)

    assert reader.problem() is None
    assert [1000 - at for at in range(20)] == list(transit.microseconds)


def test_transit_survives_the_wrap_of_the_clock() -> None:
    transit = TransitTimes()

    transit.add([STAMP_MODULUS - 5], now=10)

    assert list(transit.microseconds) == [15]


def test_stream_that_just_stops_is_an_error() -> None:
    reader = CompletionStreamReader(TransitTimes(), expected=2)

    reader.feed(_stream(2).removesuffix(DONE), now=0)

    assert reader.problem() == "stream without [DONE]"


def test_missing_token_is_an_error() -> None:
    reader = CompletionStreamReader(TransitTimes(), expected=3)

    reader.feed(_stream(2), now=0)

    assert reader.problem() == "2 tokens instead of 3"


def test_turn_counts_deltas_only_and_joins_a_torn_token() -> None:
    transit = TransitTimes()
    reader = TurnStreamReader(transit, expected=2)
    stream = (
        b'id: t:1\nevent: turn.started\ndata: {"session_id":"s"}\n\n'
        b": keep-alive\n\n"
        b'id: t:2\nevent: message.delta\ndata: {"text":"~00000001 ~0000"}\n\n'
        b'id: t:3\nevent: message.delta\ndata: {"text":"0002 "}\n\n'
        b'id: t:4\nevent: turn.completed\ndata: {"answer":"~00000001 ~00000002 "}\n\n'
    )

    for at in range(0, len(stream), 11):
        reader.feed(stream[at : at + 11], now=10)

    assert reader.problem() is None
    assert list(transit.microseconds) == [9, 8]


def test_failed_turn_is_an_error() -> None:
    reader = TurnStreamReader(TransitTimes(), expected=0)

    reader.feed(b'event: turn.failed\ndata: {"reason":"X"}\n\n', now=0)

    assert reader.problem() == "turn ended with turn.failed"
