"""W3C Trace Context as text: what a `traceparent` says, and how a hop makes its own.

https://www.w3.org/TR/trace-context/ (version 00) and, for what an answer says of its trace, the
`traceresponse` header of its second level. A trace parent of ours is always 55 characters long:
`00-` trace id `-` span id `-` flags.
"""

import re
from random import getrandbits
from typing import Final

MAX_TRACE_STATE_CHARACTERS: Final = 512
"""What the recommendation wants to be passed on at least; more is not."""
_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_KEY: Final = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_TRACESTATE: Final = re.compile(rf"{_KEY}={_VALUE}(?:[ \t]*,[ \t]*{_KEY}={_VALUE}){{0,31}}")
_TRACE: Final = slice(3, 35)
_LOWER_TRACE: Final = slice(19, 35)
_SPAN: Final = slice(36, 52)
_UP_TO_SPAN: Final = slice(36)
_SAMPLED: Final = frozenset("13579bdf")


def is_traceparent(text: str) -> bool:
    """Return whether `text` is a trace parent of W3C Trace Context, version 00."""
    match = _TRACEPARENT.fullmatch(text)
    return match is not None and match[1].strip("0") != "" and match[2].strip("0") != ""


def is_tracestate(text: str) -> bool:
    """Return whether `text` may be passed on as a trace state: well formed, and not too long."""
    return len(text) <= MAX_TRACE_STATE_CHARACTERS and _TRACESTATE.fullmatch(text) is not None


def taken(traceparent: str, tracestate: str) -> tuple[str, str]:
    """Return what holds of two texts that anybody may have written: "" for what is none.

    A state without a parent is of no trace.
    """
    if not is_traceparent(traceparent):
        return "", ""
    return traceparent, tracestate if is_tracestate(tracestate) else ""


def is_sampled(traceparent: str) -> bool:
    """Return whether the spans of this trace are recorded."""
    return traceparent[-1:] in _SAMPLED


def trace_id(traceparent: str) -> str:
    """Return its 32 characters."""
    return traceparent[_TRACE]


def span_id(traceparent: str) -> str:
    """Return its 16 characters."""
    return traceparent[_SPAN]


def is_made_up(traceparent: str) -> bool:
    """Return whether it is one of `ids.new_trace_parent`: a trace of which no span was begun."""
    return traceparent[_SPAN] == traceparent[_LOWER_TRACE]


def child_of(traceparent: str, *, sampled: bool, span: str = "") -> str:
    """Return the trace parent of a span below it; `span`: the id that the span has to have."""
    # No secret, and nobody tells a span by it whose trace he does not know. The system's generator
    # would cost as much as the rest of a span that is not kept. 0 would be none.
    own = span or f"{getrandbits(64) or 1:016x}"
    return f"{traceparent[_UP_TO_SPAN]}{own}-{'01' if sampled else '00'}"
