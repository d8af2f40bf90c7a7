"""The generator counts what happened, within its bounds, on a real server."""

import socket

import pytest

from bench.load import Ask, Kind, Load
from bench.load_generator import run_load
from bench.simulator_state import Simulator

pytestmark = pytest.mark.asyncio


def _ask(prompt: str, tokens: int, kind: Kind = Kind.COMPLETION) -> Ask:
    return Ask(kind=kind, prompt=prompt, expected_tokens=tokens)


async def test_closed_loop_stops_at_its_number_of_requests(provider: Simulator) -> None:
    load = Load(connections=4, seconds=5, max_requests=40)

    report = await run_load(provider.base_url, _ask("sim-n8", 8), load)

    assert (report.requests, report.failed, report.tokens) == (40, 0, 320)
    assert provider.counters.requests == 40
    assert report.latency_ms.count == 40
    assert report.requests_per_second > 0


async def test_closed_loop_stops_at_its_time(provider: Simulator) -> None:
    load = Load(connections=2, seconds=0.2)

    report = await run_load(provider.base_url, _ask("sim-n1-ttft50", 1), load)

    assert 0 < report.requests <= 2 * 5
    assert report.elapsed_seconds < 1


async def test_open_loop_sends_on_schedule(provider: Simulator) -> None:
    load = Load(connections=4, seconds=5, max_requests=20, rate=200)

    report = await run_load(provider.base_url, _ask("sim-n1", 1), load)

    assert (report.requests, report.failed) == (20, 0)
    assert report.elapsed_seconds >= 19 / 200


async def test_open_loop_counts_the_wait_for_a_connection(provider: Simulator) -> None:
    load = Load(connections=1, seconds=5, max_requests=4, rate=1000)

    report = await run_load(provider.base_url, _ask("sim-n1-ttft30", 1), load)

    assert report.requests == 4
    assert report.latency_ms.max >= 4 * 30 - 10


async def test_streamed_tokens_are_all_counted_with_their_transit(provider: Simulator) -> None:
    load = Load(connections=4, seconds=5, max_requests=8, ramp_seconds=0.05)
    ask = _ask("sim-n30-ttft10-tps1000-burst3", 30, Kind.COMPLETION_STREAM)

    report = await run_load(provider.base_url, ask, load)

    assert (report.requests, report.failed, report.tokens) == (8, 0, 240)
    assert report.transit_ms.count == 240
    assert report.first_token_ms.p50 >= 9.9


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("sim-err503", "HTTP 503"),
        ("sim-n5-truncate2", "connection closed before the answer's end"),
        ("sim-n5-nodone2", "stream without [DONE]"),
        ("sim-n5-fault2", "error event in the stream"),
        ("sim-n4", "4 tokens instead of 5"),
        ("sim-n5-stall2", "no answer before the end"),
    ],
)
async def test_wrong_answers_are_errors_and_no_requests(
    provider: Simulator, prompt: str, error: str
) -> None:
    load = Load(connections=2, seconds=0.3, max_requests=2, drain_seconds=0.1)

    report = await run_load(provider.base_url, _ask(prompt, 5, Kind.COMPLETION_STREAM), load)

    assert report.requests == 0
    assert report.errors == {error: 2}


async def test_nothing_listening_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]

    with pytest.raises(OSError, match="onnect"):
        await run_load(f"http://127.0.0.1:{port}", _ask("sim", 16), Load())
