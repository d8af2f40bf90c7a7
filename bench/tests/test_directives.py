"""A directive says everything about an answer, and nothing else by accident."""

import pytest

from bench import directives
from bench.directives import Cut, DirectiveError, ReplyPlan
from bench.malformed import DIALECTS


def test_plan_survives_its_own_directive() -> None:
    plan = ReplyPlan(
        tokens=200,
        first_token_ms=20,
        tokens_per_second=0.5,
        burst=5,
        status=429,
        retry_after_seconds=3,
        failures=2,
        cut=Cut.STALL,
        cut_after=7,
        dialect="crlf",
        usage="negative",
        tool="calculator",
        arguments='{"expression": "2-3"}',
        calls=3,
        endless_tools=True,
        text="Grüße, 你好",
        dimensions=8,
        label="a1",
    )

    assert plan == directives.parse(plan.directive())


def test_name_of_the_bench_scenario_is_read_as_written() -> None:
    plan = directives.parse("sim-ttft20-tps50-n200")

    assert ReplyPlan(first_token_ms=20, tokens_per_second=50, tokens=200) == plan


def test_ordinary_model_name_gets_the_default_answer() -> None:
    assert ReplyPlan() == directives.parse("gpt-5-mini")


@pytest.mark.parametrize("directive", ["sim-bogus3", "sim-nx", "sim-n1.5", "sim-args:xyz", "sim-"])
def test_unknown_part_is_refused(directive: str) -> None:
    with pytest.raises(DirectiveError):
        directives.parse(directive)


def test_last_directive_of_a_text_counts_and_punctuation_stays_out() -> None:
    text = "First sim-n3. Then answer (sim-ttft1.5-tool:http_get-n5), please."

    assert directives.find(text) == "sim-ttft1.5-tool:http_get-n5"


def test_text_without_directive_has_none() -> None:
    assert directives.find("a simple question about sim cards") is None


def test_healthy_plan_keeps_the_answer_and_drops_the_fault() -> None:
    plan = directives.parse("sim-n5-err503-fails2")

    assert plan.faulty
    assert not plan.healthy().faulty
    assert plan.healthy().tokens == 5


@pytest.mark.parametrize("name", DIALECTS)
def test_damaged_stream_can_be_asked_for_by_name(name: str) -> None:
    assert directives.parse(f"sim-sse:{name}").dialect == name
