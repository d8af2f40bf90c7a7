"""Traces: nothing without an exporter; with one, spans in the caller's trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from meshwright_common import context
from meshwright_common.context import CallContext, bind, current, new_traceparent
from meshwright_common.telemetry import trace_context, tracing
from meshwright_common.telemetry.sampling import Sampling
from meshwright_common.telemetry.spans import Kind, Span

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"
ALWAYS = Sampling(1.0)
NEVER = Sampling(0.0, keep_failed=True, slow_seconds=60)


@pytest.fixture
def kept() -> Iterator[list[Span]]:
    """What was exported, of everything."""
    spans: list[Span] = []
    _export(spans, ALWAYS)
    yield spans
    tracing.shutdown()


def _export(spans: list[Span], sampling: Sampling) -> None:
    tracing.start(sampling, spans.append, lambda: None)


def _failing_span(**attributes: int) -> str:
    below = ""

    def fail() -> None:
        nonlocal below
        with tracing.span("inner", attributes=attributes):
            below = current().traceparent
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    return below


def _names(spans: Sequence[Span]) -> list[str]:
    return [span.name for span in spans]


def test_without_an_exporter_no_span_is_made_and_the_trace_goes_on() -> None:
    assert not tracing.is_enabled()
    with bind(CallContext(traceparent=PARENT)):
        assert not tracing.serve("pkg.Service/Method").recording
        with tracing.span("inner") as inner:
            assert not inner.recording
        assert PARENT == current().traceparent


def test_spans_join_the_callers_trace_and_what_is_called_joins_theirs(kept: list[Span]) -> None:
    with bind(CallContext(traceparent=PARENT)):
        served = tracing.serve("pkg.Service/Method")
        assert served.traceparent == current().traceparent
        below = _failing_span(count=3)
        assert trace_context.span_id(below) not in served.traceparent
        assert served.traceparent == current().traceparent
        served.end()

    inner, outer = kept
    assert ("inner", "pkg.Service/Method") == (inner.name, outer.name)
    assert (inner.parent, outer.parent) == (outer.traceparent, PARENT)
    assert trace_context.trace_id(PARENT) == inner.trace_id == outer.trace_id
    assert inner.attributes == {"count": 3}
    assert ("ValueError", "") == (inner.error, outer.error)
    assert inner.began_ns <= inner.ended_ns <= outer.ended_ns


@pytest.mark.parametrize("first", ["", new_traceparent()], ids=["no header", "made here"])
def test_a_call_that_came_with_no_span_begins_a_trace(kept: list[Span], first: str) -> None:
    with bind(CallContext(traceparent=first)):
        tracing.serve("pkg.Service/Method").end()
        assert current().traceparent == kept[0].traceparent
    assert "" == kept[0].parent
    assert not first or trace_context.trace_id(first) == kept[0].trace_id


def test_what_is_not_sampled_is_not_sampled_further_down_either(kept: list[Span]) -> None:
    _export(kept, Sampling(0.0, keep_failed=False))
    with bind(CallContext()):
        assert not tracing.serve("first").recording
        below = current().traceparent
    _export(kept, ALWAYS)
    with bind(CallContext(traceparent=below)):
        tracing.serve("second").end()
    assert trace_context.is_traceparent(below)
    assert [] == kept


def test_a_failed_call_is_kept_with_what_was_done_for_it(kept: list[Span]) -> None:
    """Sampled off: its spans are made when it is known that they are wanted."""
    _export(kept, NEVER)
    with bind(CallContext(traceparent=UNSAMPLED)):
        served = tracing.serve("served")
        told = current().traceparent
        with tracing.span("model"):
            pass
        served.fail("INTERNAL")
        served.end()

    assert ["served", "model"] == _names(kept)
    assert told == kept[0].traceparent == kept[1].parent
    assert not trace_context.is_sampled(told)
    assert "failed" == kept[0].attributes["meshwright.kept"]


def test_a_call_that_went_well_is_not_kept_nor_what_was_done_for_it(kept: list[Span]) -> None:
    _export(kept, NEVER)
    with bind(CallContext(traceparent=UNSAMPLED)):
        served = tracing.serve("served")
        with pytest.raises(ValueError, match="mended"), tracing.span("model"):
            raise ValueError("mended")
        served.end()
    assert [] == kept


def test_a_slow_call_is_kept_by_when_it_first_answered(kept: list[Span]) -> None:
    _export(kept, Sampling(0.0, keep_failed=False, slow_seconds=1e-9))
    with bind(CallContext(traceparent=UNSAMPLED)):
        tracing.serve("slow").end()
    _export(kept, Sampling(0.0, keep_failed=False, slow_seconds=3600))
    with bind(CallContext(traceparent=UNSAMPLED)):
        quick = tracing.serve("long, but answered at once")
        quick.answered()
        quick.end()
    assert ["slow"] == _names(kept)


def test_an_inner_span_of_another_trace_is_not_held_with_the_call(kept: list[Span]) -> None:
    _export(kept, NEVER)
    with bind(CallContext(traceparent=UNSAMPLED)):
        served = tracing.serve("served")
        with bind(CallContext(traceparent=UNSAMPLED.replace("0af7", "1af7"))):
            assert not tracing.inner("elsewhere").recording
        served.end()


def test_a_callers_decision_holds_only_where_it_is_obeyed(kept: list[Span]) -> None:
    _export(kept, Sampling(0.0, keep_failed=False))
    assert tracing.begin_trace("in", Kind.SERVER, PARENT).recording
    outside = tracing.begin_trace("in", Kind.SERVER, PARENT, obey=False)
    assert not outside.recording
    assert not trace_context.is_sampled(outside.traceparent)
    assert trace_context.trace_id(PARENT) == trace_context.trace_id(outside.traceparent)


def test_a_caller_who_leaves_is_no_error(kept: list[Span]) -> None:
    with (
        bind(CallContext(traceparent=PARENT)),
        pytest.raises(GeneratorExit),
        tracing.span("left"),
    ):
        raise GeneratorExit
    assert [""] == [span.error for span in kept]


def test_an_exemplar_names_a_trace_that_was_kept(kept: list[Span]) -> None:
    with bind(CallContext(traceparent=PARENT)):
        served = tracing.serve("served")
        assert served.exemplar is None
        served.end()
        served.end()
    assert {"trace_id": trace_context.trace_id(PARENT)} == served.exemplar
    assert 1 == len(kept)


def test_work_of_a_service_stays_in_the_trace(kept: list[Span]) -> None:
    with bind(CallContext(traceparent=PARENT, tracestate="a=1")):
        own = context.service_context("chat", "t", (), timeout_seconds=1)
    assert (PARENT, "a=1") == (own.traceparent, own.tracestate)
