"""Capacity is arithmetic on figures that were measured, and every figure is where it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshwright_cli import capacity
from meshwright_cli.capacity import (
    CONSUMER_EVENTS_PER_SECOND,
    EVENT_BYTES,
    GIB,
    PARTITIONS,
    PASSAGE,
    REQUEST_CPU_MILLISECONDS,
    SERVICES_MIB,
    TOKEN_CPU_MILLISECONDS,
    TURN,
    TURN_CPU_MILLISECONDS,
    TURN_GROWTH,
    WORKER_TASKS_PER_SECOND,
    Demand,
    busy_cores,
    plan,
)

RESULTS = Path(__file__).parents[3] / "bench" / "RESULTS.md"
CITED = {
    "2026-11-28T11:23Z": {"1.792", "142.1", "644 (637 - 651)"},
    "2026-11-20T21:41Z": {"23.424", "9.091"},
    "2026-11-28T08:57Z": {"15.475"},
    "2026-11-28T04:58Z": {"1,501.77"},
    "2026-11-28T06:00Z": {"10,177.13"},
}


def amounts(demand: Demand) -> dict[str, float]:
    return {one.what: one.amount for one in plan(demand)}


def test_every_figure_stands_in_the_results_where_it_says() -> None:
    sections = {text.split(",")[0]: text for text in RESULTS.read_text().split("\n## ")[1:]}
    missing = [
        (date, figure)
        for date, figures in CITED.items()
        for figure in figures
        if figure not in sections[date]
    ]
    assert missing == []
    values = [
        REQUEST_CPU_MILLISECONDS.value,
        TOKEN_CPU_MILLISECONDS.value * 1000,
        SERVICES_MIB.value,
        TURN_CPU_MILLISECONDS.value,
        TURN_GROWTH.value * 9.091,
        WORKER_TASKS_PER_SECOND.value,
        CONSUMER_EVENTS_PER_SECOND.value,
    ]
    cited = {float(one.split(" ")[0].replace(",", "")) for few in CITED.values() for one in few}
    assert {round(value, 3) for value in values} <= cited


def test_cores_are_busy_time_over_what_may_be_busy() -> None:
    demand = Demand(turns_per_second=10, tokens_per_answer=100, headroom=0.5)
    turns = 10 * 0.023424 * (15.475 / 9.091)
    tokens = 10 * 100 * 0.0001421
    assert busy_cores(demand) == pytest.approx(
        {"requests": 0, "turns": turns, "tasks": 0, "tokens": tokens}
    )
    found = amounts(demand)
    assert found["cores"] == pytest.approx((turns + tokens) / 0.5)
    assert found["tokens"] == 1000
    assert found["events"] == pytest.approx(10 * TURN.events)


def test_nothing_runs_on_less_than_two_nodes_and_twelve_partitions() -> None:
    found = amounts(Demand())
    assert (found["cores"], found["nodes"], found["PostgreSQL"]) == (0, 2, 0)
    assert found["Kafka partitions"] == PARTITIONS
    assert found["memory of services"] == pytest.approx(2 * 644 / 1024)


def test_a_large_load_has_more_consumers_and_two_partitions_for_each() -> None:
    demand = Demand(tasks_per_second=10_000, tokens_per_answer=0, headroom=0.5)
    found = amounts(demand)
    assert found["ledger consumers"] > PARTITIONS / 2
    assert found["Kafka partitions"] == 2 * found["ledger consumers"]
    assert found["nodes"] == -(-found["cores"] // demand.cores_per_node)


def test_storage_is_what_a_day_makes_for_as_long_as_it_is_kept() -> None:
    demand = Demand(turns_per_second=1, passages=1000, busy_hours=2, keep_days=10)
    outbox = 2 * 3600 * TURN.events * EVENT_BYTES.value
    expected = 2 * 3600 * 10 * TURN.each + 1000 * PASSAGE.each + outbox
    assert amounts(demand)["PostgreSQL"] == pytest.approx(expected / GIB)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"turns_per_second": -1}, "turns_per_second: must not be negative"),
        ({"headroom": 1.0}, "headroom: must be at least 0 and below 1"),
        ({"cores_per_node": 0}, "cores_per_node: must be at least 1"),
    ],
)
def test_a_demand_that_cannot_be_is_refused_by_its_name(
    wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Demand(**wrong)  # type: ignore[arg-type]


def test_each_line_says_what_it_rests_on() -> None:
    lines = plan(Demand(turns_per_second=1))
    assert all(line.because for line in lines)
    assert capacity.STORED_SOURCE in next(one.because for one in lines if one.what == "PostgreSQL")
