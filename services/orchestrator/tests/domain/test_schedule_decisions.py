"""What becomes of firings that are due: on time, late, and while the run before is at work (O9)."""

from datetime import UTC, datetime, timedelta

import pytest

from meshwright_common.ids import new_id, parse_id
from meshwright_orchestrator.domain.models import TaskSpec
from meshwright_orchestrator.domain.schedules import (
    Decision,
    Look,
    MissedRuns,
    Schedule,
    decide,
    timed_id,
)
from meshwright_orchestrator.domain.timing import Cron, Timing

NINE = datetime(2026, 1, 5, 9, tzinfo=UTC)


def hour(number: int) -> datetime:
    """Return a full hour after nine."""
    return NINE + timedelta(hours=number)


def look(
    missed_runs: MissedRuns, now: datetime, *, due: datetime = NINE, at_work: bool = False
) -> Look:
    """Return a look at an hourly schedule."""
    schedule = Schedule(
        tenant_id=new_id(),
        schedule_id=new_id(),
        name="hourly",
        created_by=new_id(),
        timing=Timing(Cron("0 * * * *"), NINE - timedelta(days=30)),
        target=TaskSpec("chat", ()),
        missed_runs=missed_runs,
        start=None,
        end=None,
        paused=False,
        pause_reason="",
        granted=None,
        due=due,
        last_run_at=None,
        last_run_id="",
        created_at=NINE - timedelta(days=30),
    )
    return Look(schedule, now, at_work)


@pytest.mark.parametrize("policy", list(MissedRuns))
def test_firing_on_time_is_done_under_every_policy(policy: MissedRuns) -> None:
    now = NINE + timedelta(seconds=1)
    assert decide(look(policy, now)) == Decision(NINE, hour(1))
    assert decide(look(policy, NINE - timedelta(seconds=1))) == Decision(None, NINE)


def test_latest_does_the_newest_missed_firing_and_drops_the_rest() -> None:
    assert decide(look(MissedRuns.LATEST, hour(3) + timedelta(minutes=5))) == Decision(
        hour(3), hour(4)
    )


def test_skip_drops_what_is_late_and_does_what_is_on_time() -> None:
    assert decide(look(MissedRuns.SKIP, hour(3) + timedelta(minutes=5))) == Decision(None, hour(4))
    assert decide(look(MissedRuns.SKIP, hour(3) + timedelta(seconds=5))) == Decision(
        hour(3), hour(4)
    )


def test_all_does_missed_firings_one_after_the_other_oldest_first() -> None:
    now, due = hour(2) + timedelta(minutes=5), NINE
    fired = []
    while (decision := decide(look(MissedRuns.ALL, now, due=due))).fires is not None:
        fired.append(decision.fires)
        assert decision.due is not None
        due = decision.due
    assert fired == [hour(0), hour(1), hour(2)]
    assert decision == Decision(None, hour(3))


def test_all_does_at_most_the_newest_hundred() -> None:
    now = hour(500)
    assert decide(look(MissedRuns.ALL, now)) == Decision(hour(401), hour(402))


def test_run_before_that_is_at_work_is_waited_for_or_its_successor_dropped() -> None:
    now = hour(2) + timedelta(seconds=1)
    assert decide(look(MissedRuns.LATEST, now, at_work=True)) == Decision(None, hour(2), waits=True)
    assert decide(look(MissedRuns.ALL, now, at_work=True)) == Decision(None, NINE, waits=True)
    assert decide(look(MissedRuns.SKIP, now, at_work=True)) == Decision(None, hour(3))


def test_id_of_a_firing_is_always_the_same_and_sorts_by_time() -> None:
    schedule_id = new_id()
    first, second = timed_id(hour(0), schedule_id), timed_id(hour(1), schedule_id)
    assert first == timed_id(hour(0), schedule_id) == parse_id(first, "id")
    assert first < second < new_id()
    assert timed_id(hour(0), new_id()) != first
    assert (first[14], first[19] in "89ab") == ("7", True)
