"""Requests, first tokens and streams: the load generator against one target."""

import msgspec

from bench.load import Ask, Load, LoadReport
from bench.measurement import Measurement
from bench.process_usage import cpu_seconds, memory
from bench.processes import Placement, module, run_pinned
from bench.scenarios import Scenario
from bench.targets import RunningTarget, Target

_MEBIBYTE = 2**20


def generate(url: str, ask: Ask, load: Load, place: Placement) -> LoadReport:
    """Run the load generator in a process of its own on the load's core.

    Raises: ProcessError when it cannot run.
    """
    arguments = {
        "--url": url,
        "--kind": ask.kind,
        "--prompt": ask.prompt,
        "--model": ask.model,
        "--agent": ask.agent,
        "--tokens": ask.expected_tokens,
        "--connections": load.connections,
        "--seconds": load.seconds,
        "--requests": load.max_requests,
        "--ramp": load.ramp_seconds,
        "--drain": load.drain_seconds,
    }
    if load.rate is not None:
        arguments["--rate"] = load.rate
    words = [str(word) for pair in arguments.items() for word in pair]
    output = run_pinned(
        module("bench.load_generator", *words),
        cores=place.load,
        timeout_seconds=load.seconds + load.drain_seconds + 30,
        environment={"BENCH_API_KEY": ask.api_key},
    )
    return msgspec.json.decode(output, type=LoadReport)


def measure(
    scenario: Scenario, running: RunningTarget, *, repeat: int, place: Placement
) -> Measurement:
    """Warm up, run the scenario once and take the target's CPU and memory with it."""
    ask = scenario.ask(running.target, running.api_key)
    warm_up = scenario.warm_up_ask(running.target, running.api_key)
    generate(running.url, warm_up, scenario.warm_up(), place)
    before = cpu_seconds(running.pid)
    report = generate(running.url, ask, scenario.load, place)
    used = cpu_seconds(running.pid) - before
    values = _values(report)
    if running.target is not Target.DIRECT:
        used_memory = memory(running.pid)
        values["pss_mib"] = used_memory.pss_bytes / _MEBIBYTE
        values["pss_services_mib"] = used_memory.services_bytes / _MEBIBYTE
        if report.requests:
            values["cpu_ms_per_request"] = used * 1e3 / report.requests
        if report.tokens:
            values["cpu_ms_per_1000_tokens"] = used * 1e6 / report.tokens
    return Measurement(scenario.name, running.target, repeat, values, report.errors)


def _values(report: LoadReport) -> dict[str, float]:
    """Return the metrics of a report; without one right answer there are no times."""
    values = {
        "requests_per_second": report.requests_per_second,
        "tokens_per_second": report.tokens_per_second,
        "failed": float(report.failed),
    }
    if report.latency_ms.count:
        values["latency_p50_ms"] = report.latency_ms.p50
        values["latency_p99_ms"] = report.latency_ms.p99
    if report.first_token_ms.count:
        values["first_token_p50_ms"] = report.first_token_ms.p50
        values["first_token_p99_ms"] = report.first_token_ms.p99
    if report.transit_ms.count:
        values["transit_p50_ms"] = report.transit_ms.p50
        values["transit_p99_ms"] = report.transit_ms.p99
        values["late_token_percent"] = report.late_token_share * 100
    return values
