"""Versions of agents: shares, who gets which, and what defining changes. Pure."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright_common.errors import FailedPrecondition, ResourceExhausted
from meshwright_orchestrator.domain.agents import AgentType
from meshwright_orchestrator.domain.defining import MAX_AGENTS, MAX_VERSIONS, planned
from meshwright_orchestrator.domain.definitions import (
    AgentHead,
    Definition,
    NewVersion,
    Shares,
    only,
)
from meshwright_orchestrator.domain.errors import VersionConflict

KEYS = [f"session-{n}" for n in range(10_000)]
NEW = NewVersion("helper", "", Definition(AgentType.CHAT))


def head(newest: int, shares: Shares) -> AgentHead:
    now = datetime.now(UTC)
    return AgentHead("helper", "", AgentType.CHAT, newest, shares, now, now)


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=6).filter(any),
    st.integers(0, 100),
)
def test_shares_always_sum_to_all(before: list[int], percent: int) -> None:
    shares = only(1)
    for version, share in enumerate(before, start=2):
        shares = shares.with_share(version, share) or shares
    after = shares.with_share(len(before) + 2, percent)
    assert after is not None
    assert sum(after.percent.values()) == 100
    assert all(share > 0 for share in after.percent.values())
    rest = 100 - percent
    for version, share in shares.percent.items():
        assert abs(after.of(version) - share * rest / 100) < 1


@pytest.mark.parametrize("percent", [{1: 90, 2: 10}, {1: 50, 2: 50}, {1: 20, 4: 50, 9: 30}])
def test_versions_get_their_share_of_the_keys(percent: dict[int, int]) -> None:
    shares = Shares(percent)
    counted = Counter(shares.pick("helper", key) for key in KEYS)
    for version, share in percent.items():
        expected = len(KEYS) * share / 100
        # Five standard deviations of a binomial: one false alarm in a million.
        bound = 5 * (expected * (1 - share / 100)) ** 0.5
        assert abs(counted[version] - expected) < bound


def test_new_version_takes_keys_and_moves_none_between_the_others() -> None:
    before, after = Shares({1: 90, 2: 10}), Shares({1: 63, 2: 7, 3: 30})
    moves = Counter((before.pick("helper", key), after.pick("helper", key)) for key in KEYS)
    assert moves[1, 2] == moves[2, 1] == 0
    assert abs(moves[1, 3] + moves[2, 3] - 3000) < 250


def test_keys_of_one_agent_say_nothing_of_another() -> None:
    shares = Shares({1: 50, 2: 50})
    same = sum(shares.pick("a", key) == shares.pick("b", key) for key in KEYS)
    assert abs(same - len(KEYS) / 2) < 250


def test_first_version_gets_everything_whatever_is_asked() -> None:
    plan = planned(None, NewVersion("a", "", NEW.definition, share=5), is_newest=False, agents=0)
    assert (plan.version, plan.is_new, plan.shares) == (1, True, only(1))


def test_equal_definition_changes_only_the_share() -> None:
    asked = NewVersion("a", "", NEW.definition, share=40)
    plan = planned(head(2, Shares({1: 90, 2: 10})), asked, is_newest=True, agents=1)
    assert (plan.version, plan.is_new, plan.shares) == (2, False, Shares({1: 60, 2: 40}))


def test_share_that_nobody_else_can_take_is_refused() -> None:
    asked = NewVersion("a", "", NEW.definition, share=40)
    with pytest.raises(FailedPrecondition):
        planned(head(2, only(2)), asked, is_newest=True, agents=1)


def test_writer_has_to_know_the_newest_version() -> None:
    asked = NewVersion("a", "", NEW.definition, expected=1)
    with pytest.raises(VersionConflict) as caught:
        planned(head(2, only(1)), asked, is_newest=False, agents=1)
    assert caught.value.metadata["newest"] == "2"


def test_numbers_of_agents_and_versions_are_bounded() -> None:
    with pytest.raises(ResourceExhausted):
        planned(None, NEW, is_newest=False, agents=MAX_AGENTS)
    with pytest.raises(ResourceExhausted):
        planned(head(MAX_VERSIONS, only(1)), NEW, is_newest=False, agents=1)
