"""Damaged and unusual streams a provider may send, by name (`sse:NAME` in a directive).

Legal but unusual: crlf, bytes1 (a byte per write), split (multi-byte characters torn apart),
multiline (an event of several data lines), comments (a flood of comments), bom, fields (ids,
event names and retry lines between the events).
Wrong: longline (a line of 10 MB), badjson, doubledone, afterdone (data after the end),
contenttype (an HTML type), gzip (compressed though nobody asked), badutf8, surrogate (half a
surrogate pair as JSON escape).
Without an end, a write every 20 ms: endlesscomments, endlessevents (without data), endlesspings
(data that is no output).
"""

import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, repeat

from bench.answers import Answer
from bench.openai_wire import DONE, event, stamp, token

LONG_LINE_BYTES = 10_000_000
COMMENTS = 10_000
PAUSE_SECONDS = 0.02
_TEXT = "Größe 你好 🙂 "


@dataclass(frozen=True, slots=True)
class DamagedStream:
    """A stream as its writes, with a pause after each one."""

    writes: Iterable[bytes]
    content_type: bytes = b"text/event-stream; charset=utf-8"
    content_encoding: bytes = b""
    pause_seconds: float = 0.0


def _events(answer: Answer) -> list[bytes]:
    pieces = list(answer.pieces)
    if not pieces:
        text = token(stamp()).decode()
        pieces = [event(answer.chunks.content(text))] * answer.tokens
    return [answer.opening(), *pieces, answer.closing()]


def _crlf(answer: Answer) -> DamagedStream:
    events = _events(answer)
    # Mixed on purpose: every other event keeps its bare line feeds.
    return DamagedStream(
        [data.replace(b"\n", b"\r\n") if index % 2 else data for index, data in enumerate(events)]
    )


def _bytes1(answer: Answer) -> DamagedStream:
    whole = b"".join(_events(answer))
    return DamagedStream([whole[at : at + 1] for at in range(len(whole))])


def _split(answer: Answer) -> DamagedStream:
    text = event(answer.chunks.content(_TEXT)) * max(1, answer.tokens)
    whole = answer.opening() + text + answer.closing()
    # 7 is coprime to the length of an event, so every character is torn somewhere.
    return DamagedStream([whole[at : at + 7] for at in range(0, len(whole), 7)])


def _multiline(answer: Answer) -> DamagedStream:
    return DamagedStream(
        [data.replace(b',"choices":', b',\ndata: "choices":') for data in _events(answer)]
    )


def _comments(answer: Answer) -> DamagedStream:
    return DamagedStream([b": keep-alive\n\n" * COMMENTS, *_events(answer)])


def _bom(answer: Answer) -> DamagedStream:
    return DamagedStream([b"\xef\xbb\xbf", *_events(answer)])


def _fields(answer: Answer) -> DamagedStream:
    return DamagedStream(
        [b"event: message\nid: %d\nretry: 10\n%b" % pair for pair in enumerate(_events(answer))]
    )


def _long_line(answer: Answer) -> DamagedStream:
    line = event(answer.chunks.content("x" * LONG_LINE_BYTES))
    return DamagedStream([answer.opening(), line, answer.closing()])


def _bad_json(answer: Answer) -> DamagedStream:
    opening, *rest = _events(answer)
    return DamagedStream([opening, b'data: {"choices":[{"delta":\n\n', *rest])


def _double_done(answer: Answer) -> DamagedStream:
    return DamagedStream([*_events(answer), DONE])


def _after_done(answer: Answer) -> DamagedStream:
    return DamagedStream([*_events(answer), event(answer.chunks.content("too late"))])


def _content_type(answer: Answer) -> DamagedStream:
    return DamagedStream(_events(answer), content_type=b"text/html")


def _gzip(answer: Answer) -> DamagedStream:
    return DamagedStream([gzip.compress(b"".join(_events(answer)))], content_encoding=b"gzip")


def _bad_utf8(answer: Answer) -> DamagedStream:
    damaged = event(answer.chunks.content("x")).replace(b'"x"', b'"\xff\xfe"')
    return DamagedStream([answer.opening(), damaged, answer.closing()])


def _surrogate(answer: Answer) -> DamagedStream:
    damaged = event(answer.chunks.content("x")).replace(b'"x"', b'"\\ud83d"')
    return DamagedStream([answer.opening(), damaged, answer.closing()])


def _endless(write: bytes) -> Callable[[Answer], DamagedStream]:
    return lambda answer: DamagedStream(
        chain([answer.opening()], repeat(write)), pause_seconds=PAUSE_SECONDS
    )


DIALECTS: dict[str, Callable[[Answer], DamagedStream]] = {
    "crlf": _crlf,
    "bytes1": _bytes1,
    "split": _split,
    "multiline": _multiline,
    "comments": _comments,
    "bom": _bom,
    "fields": _fields,
    "longline": _long_line,
    "badjson": _bad_json,
    "doubledone": _double_done,
    "afterdone": _after_done,
    "contenttype": _content_type,
    "gzip": _gzip,
    "badutf8": _bad_utf8,
    "surrogate": _surrogate,
    "endlesscomments": _endless(b": still here\n\n"),
    "endlessevents": _endless(b"event: ping\n\n"),
    "endlesspings": _endless(event(b'{"type":"ping"}')),
}
