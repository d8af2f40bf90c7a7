"""Which deployment is tried first, and why not the others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from meshwright_common.clock import ManualClock
from meshwright_model_router.domain.catalogue import Deployment, Route
from meshwright_model_router.domain.choosing import Candidate, Choosing, Exclusion, Needs, chosen
from meshwright_model_router.domain.health import Health
from meshwright_model_router.domain.health_values import Numbers, Rest
from meshwright_model_router.domain.pricing import PriceHistory, Prices
from meshwright_model_router.domain.routing import RoutingPolicy, Strategy

A = Deployment("a", "m", "openai")
B = Deployment("b", "m", "openai")
C = Deployment("c", "m", "openai")


class Chooser:
    """Choosing with a clock that stands still and draws that repeat."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.health = Health(self.clock)
        self.choosing = Choosing(self.health, self.clock, random.Random(7).random)  # noqa: S311 -- draws that repeat

    def route(self, deployment: Deployment) -> Route[None]:
        return Route(deployment, None, deployment.model)

    def order(
        self,
        deployments: Sequence[Deployment],
        policy: RoutingPolicy | None = None,
        needs: Needs | None = None,
        allows: Callable[[Deployment], bool] = lambda _: True,
    ) -> list[Candidate[None]]:
        routes = [self.route(one) for one in deployments]
        return self.choosing.candidates(routes, policy or RoutingPolicy(), needs or Needs(), allows)

    def first(
        self, deployments: Sequence[Deployment], policy: RoutingPolicy, needs: Needs | None = None
    ) -> str:
        one = chosen(self.order(deployments, policy, needs))
        assert one is not None
        return one.deployment.name


@pytest.fixture
def chooser() -> Chooser:
    return Chooser()


def names(candidates: Sequence[Candidate[None]]) -> list[str]:
    return [one.deployment.name for one in candidates]


def test_lowest_priority_number_is_tried_first(chooser: Chooser) -> None:
    found = chooser.order([replace(A, priority=70), replace(B, priority=10), C])
    assert names(found) == ["b", "c", "a"]
    assert [one.score for one in found] == [10, 50, 70]


def test_equal_ranks_share_the_calls(chooser: Chooser) -> None:
    firsts = Counter(chooser.first([A, B], RoutingPolicy()) for _ in range(1000))
    assert 400 < firsts["a"] < 600


def test_weights_are_shares(chooser: Chooser) -> None:
    policy = RoutingPolicy(strategy=Strategy.WEIGHTED)
    weighted = [replace(A, weight=100), replace(B, weight=300)]
    firsts = Counter(chooser.first(weighted, policy) for _ in range(4000))
    assert 0.2 < firsts["a"] / 4000 < 0.3


def test_least_busy_counts_calls_here_and_elsewhere(chooser: Chooser) -> None:
    policy = RoutingPolicy(strategy=Strategy.LEAST_BUSY)
    for _ in range(2):
        chooser.health.of(chooser.route(A)).begin(0.0)
    chooser.health.of(chooser.route(B)).others = Numbers(in_flight=3)
    chooser.health.of(chooser.route(C)).begin(0.0)
    assert names(chooser.order([A, B, C], policy)) == ["c", "a", "b"]


def test_lowest_latency_prefers_who_answers_first_and_tries_who_is_unknown(
    chooser: Chooser,
) -> None:
    policy = RoutingPolicy(strategy=Strategy.LOWEST_LATENCY)
    for deployment, seconds in ((A, 0.5), (B, 0.1)):
        one = chooser.health.of(chooser.route(deployment))
        trial = one.begin(0.0)
        one.spoke(chooser.clock.monotonic(), seconds, trial=trial)
        one.succeeded(chooser.clock.monotonic(), seconds, trial=trial)
    assert names(chooser.order([A, B, C], policy)) == ["c", "b", "a"]
    one = chooser.health.of(chooser.route(B))
    for _ in range(5):
        one.begin(0.0)
    assert chooser.first([A, B], policy) == "a", "what waits there takes its time as well"


def test_lowest_cost_depends_on_the_call(chooser: Chooser) -> None:
    policy = RoutingPolicy(strategy=Strategy.LOWEST_COST)
    reads = replace(A, prices=PriceHistory.of(Prices(input=1_000_000, output=9_000_000)))
    writes = replace(B, prices=PriceHistory.of(Prices(input=2_000_000, output=1_000_000)))
    long_prompt = Needs(prompt_tokens=10_000, output_tokens=10)
    assert chooser.first([reads, writes], policy, long_prompt) == "a"
    long_answer = Needs(prompt_tokens=10, output_tokens=10_000)
    assert chooser.first([reads, writes], policy, long_answer) == "b"


@pytest.mark.parametrize("strategy", list(Strategy))
def test_session_stays_and_only_the_sessions_of_one_that_is_out_move(
    chooser: Chooser, strategy: Strategy
) -> None:
    policy = RoutingPolicy(strategy=strategy, sticky_by_session=True)
    sessions = [Needs(session_id=f"s{number}") for number in range(300)]
    homes = [chooser.first([A, B, C], policy, one) for one in sessions]
    assert [chooser.first([A, B, C], policy, one) for one in sessions] == homes
    assert min(Counter(homes).values()) > 60
    out = chooser.health.of(chooser.route(A))
    out.rest = Rest(chooser.clock.monotonic() + 60, "PROVIDER_TIMEOUT", broken=True)
    moved = [chooser.first([A, B, C], policy, one) for one in sessions]
    assert all(now == home for now, home in zip(moved, homes, strict=True) if home != "a")
    assert "a" not in moved
    out.rest = None
    assert [chooser.first([A, B, C], policy, one) for one in sessions] == homes


def test_stickiness_does_not_pass_over_priority(chooser: Chooser) -> None:
    policy = RoutingPolicy(sticky_by_session=True)
    spare = replace(B, priority=90)
    firsts = {chooser.first([A, spare], policy, Needs(session_id=f"s{n}")) for n in range(50)}
    assert firsts == {"a"}


def test_each_exclusion_has_its_name_and_its_place_behind_the_eligible(chooser: Chooser) -> None:
    resting = Deployment("resting", "m", "openai", capabilities=("vision",))
    chooser.health.of(chooser.route(resting)).rest = Rest(1e9, "PROVIDER_TIMEOUT", broken=True)
    full = Deployment("full", "m", "openai", capabilities=("vision",))
    chooser.health.of(chooser.route(full)).note_full(chooser.clock.monotonic(), 30)
    deployments = [
        Deployment("disabled", "m", "openai", disabled=True),
        Deployment("forbidden", "m", "openai"),
        Deployment("blind", "m", "openai", capabilities=("tools",)),
        Deployment("small", "m", "openai", capabilities=("vision",), context_window=1000),
        resting,
        full,
        Deployment("fits", "m", "openai", capabilities=("vision",), context_window=1010),
    ]
    needs = Needs(frozenset({"vision"}), prompt_tokens=900, output_tokens=110)
    found = chooser.order(deployments, needs=needs, allows=lambda one: one.name != "forbidden")
    assert {one.deployment.name: one.exclusion for one in found} == {
        "fits": Exclusion.NONE,
        "disabled": Exclusion.DISABLED,
        "forbidden": Exclusion.NOT_ALLOWED,
        "blind": Exclusion.CAPABILITY,
        "small": Exclusion.CONTEXT_WINDOW,
        "resting": Exclusion.COOLING_DOWN,
        "full": Exclusion.LIMIT,
    }
    assert found[0].deployment.name == "fits"


def test_capability_that_nobody_is_said_to_have_excludes_nobody(chooser: Chooser) -> None:
    """What the operator did not say is not known: the provider decides."""
    needs = Needs(frozenset({"vision"}))
    assert chooser.order([replace(A, capabilities=("tools",))], needs=needs)[0].eligible
