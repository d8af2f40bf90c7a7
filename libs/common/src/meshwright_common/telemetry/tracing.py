"""Spans. Nothing is made, and next to nothing is paid, until an exporter is configured.

The current span is the `traceparent` of the call context: everything that hands work on (calls,
events, tasks) carries it already, and domain code needs to know no more. A span of ours becomes
one of OpenTelemetry's when it ends (`span_export`): half the price of the SDK's own, and it can
still be made for a call that was not sampled and turned out to be worth it (`sampling`).

At most two spans a service for each call, and none for a message of a stream. Attributes hold no
user text, no prompts, no secrets (`captured` has the one exception).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from meshwright_common import context
from meshwright_common.telemetry import trace_context
from meshwright_common.telemetry.sampling import Sampling
from meshwright_common.telemetry.spans import NO_SPAN, Attribute, Kind, NotRecorded, Span

Emit = Callable[[Span], None]

MOST_HELD: Final = 32
"""Inner spans of a call that is not sampled, kept until it is known whether it is worth it."""


class _State:
    """One per process. `emit` is None while no spans are made."""

    emit: Emit | None = None
    close: Callable[[], None] | None = None
    sampling: Sampling = Sampling()


_serving: ContextVar[Span] = ContextVar("meshwright_served_span", default=NO_SPAN)
"""The span of the call being served, when the call is not sampled."""


def start(sampling: Sampling, emit: Emit, close: Callable[[], None]) -> None:
    """Make spans from now on: `emit` takes each that ended and is to be kept."""
    _State.sampling, _State.emit, _State.close = sampling, emit, close


def shutdown() -> None:
    """Send what is still held back. Blocks for a few seconds at most."""
    close, _State.emit, _State.close = _State.close, None, None
    if close is not None:
        close()


def is_enabled() -> bool:
    """Return whether spans are made at all."""
    return _State.emit is not None


def serve(name: str, kind: Kind = Kind.SERVER, *, span_id: str = "") -> Span:
    """Begin the span of a call served here and make it current for the rest of this task.

    Its parent is the call context's; without one a trace begins. It may be kept although its
    trace is not sampled. Whoever serves the call ends it. `span_id`: the id that it has to have.
    """
    if _State.emit is None:
        return NO_SPAN
    call = context.current()
    made = begin_trace(name, kind, call.traceparent, span_id=span_id)
    if made.traceparent != call.traceparent:
        context.enter(call.traced(made.traceparent))
    if made.recording and not made.sampled:
        _serving.set(made)
    return made


def begin_trace(
    name: str, kind: Kind, parent: str, *, span_id: str = "", obey: bool = True
) -> Span:
    """Begin the span of a call that came with `parent`, or with none (""), and leave it at that.

    With `obey` the caller's sampled flag holds, otherwise the decision is made here. What is not
    recorded has a trace parent, too, that tells those below.
    """
    if _State.emit is None:
        return NO_SPAN
    sampling = _State.sampling
    above = "" if not parent or trace_context.is_made_up(parent) else parent
    sampled = trace_context.is_sampled(above) if obey and above else sampling.chooses()
    if not sampled and not sampling.looks_back and above and not trace_context.is_sampled(above):
        return NotRecorded(above)
    own = trace_context.child_of(parent or context.new_traceparent(), sampled=sampled, span=span_id)
    if not sampled and not sampling.looks_back:
        return NotRecorded(own)
    return Span(name, kind, own, above, sampled=sampled, finish=_finish_served)


@contextmanager
def span(
    name: str, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Attribute] | None = None
) -> Iterator[Span]:
    """Measure the block as a child of the current span. An error in it marks the span."""
    current = inner(name, kind)
    if not current.recording:
        yield NO_SPAN
        return
    if attributes:
        current.attributes.update(attributes)
    with context.bind(context.current().traced(current.traceparent)):
        try:
            yield current
        except BaseException as error:
            current.failed_by(error)
            raise
        finally:
            current.end()


def inner(name: str, kind: Kind = Kind.INTERNAL) -> Span:
    """Begin a child of the current span, which does not become current; whoever began it ends it.

    For what is no block, as an async generator: calls made for it are given its trace parent by
    `context.bind(current().traced(span.traceparent))`.
    """
    if _State.emit is None:
        return NO_SPAN
    parent = context.current().traceparent
    if trace_context.is_sampled(parent):
        own = trace_context.child_of(parent, sampled=True)
        return Span(name, kind, own, parent, sampled=True, finish=_finish)
    served = _serving.get()
    if not served.recording or served.trace_id != trace_context.trace_id(parent):
        return NO_SPAN
    own = trace_context.child_of(parent, sampled=False)
    held = Span(name, kind, own, parent, sampled=False, finish=_hold)
    held.served = served
    return held


def exemplar() -> dict[str, str] | None:
    """Return what a metric says of the trace of the current call, when its spans are recorded.

    None for a call that may only be kept at its end: nobody knows yet.
    """
    parent = context.current().traceparent
    if _State.emit is None or not trace_context.is_sampled(parent):
        return None
    return {"trace_id": trace_context.trace_id(parent)}


def record(
    name: str,
    kind: Kind,
    parent: str,
    attributes: Mapping[str, Attribute],
    *,
    began_ns: int,
    error: BaseException | None = None,
) -> None:
    """Make a span of something that is over: it began at `began_ns` (Unix time) and ends now.

    Kept as that of a served call would be.
    """
    if _State.emit is None or not parent:
        return
    sampled = trace_context.is_sampled(parent)
    if not sampled and not (error is not None and _State.sampling.keep_failed):
        return
    own = trace_context.child_of(parent, sampled=sampled)
    made = Span(name, kind, own, parent, sampled=sampled, finish=_finish_served)
    made.lasts_since(began_ns)
    made.attributes.update(attributes)
    if error is not None:
        made.failed_by(error)
    made.end()


def _finish(ended: Span) -> None:
    if _State.emit is not None:
        ended.kept = True
        if ended.shared:
            ended.attributes = {**ended.shared, **ended.attributes}
        _State.emit(ended)


def _finish_served(ended: Span) -> None:
    if not ended.sampled:
        seconds = ended.answered_seconds
        if not _State.sampling.keeps(failed=ended.error != "", seconds=seconds):
            ended.held.clear()
            return
        ended.attributes["meshwright.kept"] = "failed" if ended.error else "slow"
    _finish(ended)
    for one in ended.held:
        _finish(one)
    ended.held.clear()


def _hold(ended: Span) -> None:
    """Keep an inner span with the call that it belongs to."""
    served = ended.served
    # Nobody points back at it any more: what is not kept is gone without the collector.
    ended.served = None
    if served is None:
        return
    if served.kept:
        _finish(ended)
    elif not served.ended and len(served.held) < MOST_HELD:
        served.held.append(ended)


def now_ns() -> int:
    """Return the moment at which something begins that `record` is told of later."""
    # house: wall-clock: spans of different processes are laid side by side
    return time.time_ns()
