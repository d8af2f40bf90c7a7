"""W3C Trace Context: what is taken from a caller, and what is passed on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshwright_common.context import CallContext, bind, new_traceparent
from meshwright_common.telemetry import propagation, trace_context

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (PARENT, True),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), False),
        (PARENT.replace("b7ad6b7169203331", "0" * 16), False),
        (PARENT.replace("0af7", "0xf7"), False),
        ("", False),
        ("---", False),
        ("é" * 55, False),
    ],
)
def test_only_a_whole_trace_parent_is_one(text: str, good: bool) -> None:
    assert good == trace_context.is_traceparent(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("rojo=00f067aa0ba902b7", True),
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", True),
        ("fw529a3039@dt=FfAAAAAAA , a=b", True),
        ("", False),
        ("rojo", False),
        ("ROJO=1", False),
        ("a=b\r\nx-evil: 1", False),
        ("a=" + "b" * 600, False),
        (",".join(f"k{number}=v" for number in range(33)), False),
    ],
)
def test_only_a_well_formed_short_trace_state_is_passed_on(text: str, good: bool) -> None:
    assert good == trace_context.is_tracestate(text)


def test_a_made_up_trace_parent_is_known_as_one() -> None:
    assert trace_context.is_made_up(new_traceparent())
    assert trace_context.is_traceparent(new_traceparent())
    assert not trace_context.is_sampled(new_traceparent())
    assert not trace_context.is_made_up(PARENT)


def test_a_child_stays_in_the_trace_under_an_id_of_its_own() -> None:
    child = trace_context.child_of(PARENT, sampled=False)
    assert trace_context.is_traceparent(child)
    assert trace_context.trace_id(PARENT) == trace_context.trace_id(child)
    assert trace_context.span_id(PARENT) != trace_context.span_id(child)
    assert not trace_context.is_sampled(child)
    named = trace_context.child_of(PARENT, sampled=True, span="00f067aa0ba902b7")
    assert f"{PARENT[:36]}00f067aa0ba902b7-01" == named


@pytest.fixture
def told() -> Iterator[None]:
    propagation.configure(["Tools.example.com", "*.mesh.local"], trust_callers=False)
    yield
    propagation.configure([], trust_callers=False)


@pytest.mark.usefixtures("told")
def test_only_hosts_that_a_setting_names_are_told_of_a_trace() -> None:
    with bind(CallContext(traceparent=PARENT, tracestate="a=1")):
        headers = {"traceparent": PARENT, "tracestate": "a=1"}
        assert headers == propagation.headers_for("tools.example.com")
        assert headers == propagation.headers_for("a.MESH.local")
        for stranger in ("api.openai.com", "mesh.local.example.com", "eviltools.example.com", ""):
            assert {} == propagation.headers_for(stranger)


def test_without_the_setting_nobody_is_told() -> None:
    with bind(CallContext(traceparent=PARENT)):
        assert {} == propagation.headers_for("localhost")
