"""From the histograms of model calls to traces that are recorded, and to no others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import Histogram

from meshwright_common.context import CallContext, bind
from meshwright_common.ids import new_id
from meshwright_common.telemetry import tracing
from meshwright_common.telemetry.sampling import Sampling
from meshwright_model_router.adapters import metrics
from meshwright_model_router.domain.output import TokenUsage
from meshwright_model_router.domain.usage import Attribution, Operation, Outcome, UsageRecord

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"

HISTOGRAMS = (metrics.MODEL_CALL_SECONDS, metrics.MODEL_FIRST_TOKEN_SECONDS)


@pytest.fixture
def making_spans() -> Iterator[None]:
    """Spans are made, and nobody wants them."""
    tracing.start(Sampling(0.0), lambda span: None, lambda: None)
    yield
    tracing.shutdown()


def _record(deployment: str) -> UsageRecord:
    return UsageRecord(
        tenant_id=new_id(),
        user_id="",
        correlation_id="",
        attribution=Attribution(new_id()),
        operation=Operation.GENERATE,
        outcome=Outcome.COMPLETED,
        model="m",
        deployment=deployment,
        provider="openai",
        usage=TokenUsage(),
        first_token_milliseconds=20,
        duration_milliseconds=40,
    )


def _traces(histogram: Histogram, deployment: str) -> set[str]:
    return {
        sample.exemplar.labels["trace_id"]
        for metric in histogram.collect()
        for sample in metric.samples
        if sample.labels.get("deployment") == deployment and sample.exemplar is not None
    }


@pytest.mark.usefixtures("making_spans")
def test_a_model_call_leads_to_its_trace_when_that_is_sampled() -> None:
    for deployment, trace in (("sampled", SAMPLED), ("unsampled", UNSAMPLED)):
        with bind(CallContext(traceparent=trace)):
            metrics.observe(_record(deployment))
    for histogram in HISTOGRAMS:
        assert {SAMPLED[3:35]} == _traces(histogram, "sampled")
        assert set() == _traces(histogram, "unsampled")


def test_a_process_that_makes_no_spans_leads_to_none() -> None:
    with bind(CallContext(traceparent=SAMPLED)):
        metrics.observe(_record("no-spans"))
    assert [set(), set()] == [_traces(histogram, "no-spans") for histogram in HISTOGRAMS]
