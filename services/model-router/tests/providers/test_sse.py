"""The SSE parser against WHATWG's rules, and against streams made to break parsers."""

import random

import pytest

from meshwright_model_router.providers.sse import MAX_LINE_BYTES, SseError, SseParser


def feed_all(parser: SseParser, stream: bytes, step: int) -> list[bytes]:
    return [
        event for at in range(0, len(stream), step) for event in parser.feed(stream[at : at + step])
    ]


TABLE = {
    "an event": (b"data: a\n\n", [b"a"]),
    "two events": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "no blank after the colon": (b"data:a\n\n", [b"a"]),
    "only one blank is taken away": (b"data:  a\n\n", [b" a"]),
    "several lines of data": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "an empty line of data": (b"data\n\n", [b""]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "CR alone": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed line ends": (b"data: a\r\n\ndata: b\r\r\ndata: c\n\r", [b"a", b"b", b"c"]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "a byte order mark later is text": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    "comments": (b": keep-alive\n\ndata: a\n: more\n\n", [b"a"]),
    "other fields": (b"event: x\nid: 1\nretry: 5\ndata: a\nnonsense\n\n", [b"a"]),
    "an event without data": (b"event: ping\n\ndata: a\n\n", [b"a"]),
    "what is not complete is no event": (b"data: a\n\ndata: b\n", [b"a"]),
    "blank lines only": (b"\n\n\r\n\n", []),
    "torn characters stay together": ("data: 你好🙂\n\n".encode(), ["你好🙂".encode()]),
    "invalid UTF-8 passes": (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
    "a field that begins like data": (b"database: a\n\ndata: b\n\n", [b"b"]),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 10_000])
def test_stream_is_parsed_the_same_however_it_is_cut(name: str, step: int) -> None:
    """F-56: split characters, CRLF mix, BOM, one-byte chunks, multi-line data."""
    stream, expected = TABLE[name]
    assert expected == feed_all(SseParser(), stream, step)


def test_random_cuts_and_line_ends_change_nothing() -> None:
    random_numbers = random.Random(56)  # noqa: S311 -- a repeatable shuffle
    expected = [f"event {number} 你好".encode() for number in range(200)]
    for _ in range(50):
        stream = b"".join(
            b"data: " + event + random_numbers.choice([b"\n\n", b"\r\n\r\n", b"\r\r"])
            for event in expected
        )
        parser, found, at = SseParser(), [], 0
        while at < len(stream):
            step = random_numbers.randint(1, 60)
            found += parser.feed(stream[at : at + step])
            at += step
        assert expected == found


def test_flood_of_comments_holds_no_memory() -> None:
    parser = SseParser()
    for _ in range(1000):
        assert parser.feed(b": ping\n" * 100) == []
    assert parser.feed(b"data: a\n\n") == [b"a"]


@pytest.mark.parametrize("step", [1 << 16, 1 << 22])
def test_line_over_its_limit_is_refused(step: int) -> None:
    """D3: a line of at most 1 MiB; F-56: memory stays bounded."""
    stream = b"data: " + b"x" * (10 * MAX_LINE_BYTES) + b"\n\n"
    with pytest.raises(SseError):
        feed_all(SseParser(), stream, step)


def test_line_at_its_limit_is_taken() -> None:
    text = b"x" * (MAX_LINE_BYTES - 6)
    assert SseParser().feed(b"data: " + text + b"\n\n") == [text]


def test_event_of_many_lines_over_the_limit_is_refused() -> None:
    line = b"data: " + b"x" * 1000 + b"\n"
    with pytest.raises(SseError):
        feed_all(SseParser(), line * 2000, len(line))


def test_long_line_in_small_pieces_is_joined_once() -> None:
    """A megabyte byte by byte would take minutes if each piece copied what came before."""
    parser = SseParser()
    parser.feed(b"data: ")
    for _ in range(500_000):
        parser.feed(b"x")
    assert parser.feed(b"\n\n") == [b"x" * 500_000]
