"""Exemplars: from a bucket of a histogram to a trace that was kept."""

from __future__ import annotations

from urllib.request import Request, urlopen

import pytest

from meshwright_common.storage.embedded.process import free_port
from meshwright_common.telemetry import metrics

TRACE = "0af7651916cd43dd8448eb211c80319c"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def url() -> str:
    port = free_port()
    metrics.serve(f"127.0.0.1:{port}")
    return f"http://127.0.0.1:{port}/metrics"


def _read(url: str, accept: str) -> str:
    with urlopen(Request(url, headers={"accept": accept}), timeout=5) as answer:  # noqa: S310
        text: str = answer.read().decode()
    return text


def test_openmetrics_shows_the_trace_of_a_call_and_the_older_format_does_not(url: str) -> None:
    series = metrics.RPC_SERVER_SECONDS.labels("/tests.Exemplars/Call", "OK")
    series.observe(0.02, {"trace_id": TRACE})
    series.observe(0.02, None)
    assert f'# {{trace_id="{TRACE}"}} 0.02' in _read(url, OPENMETRICS)
    assert TRACE not in _read(url, "text/plain")
