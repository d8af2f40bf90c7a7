"""How much waits: what is counted, and what came meanwhile."""

import pytest

from meshwright_orchestrator.domain.backlog import Backlog
from meshwright_orchestrator.domain.errors import Backlogged
from meshwright_orchestrator.domain.models import Priority


def test_what_is_submitted_during_a_count_is_not_forgotten() -> None:
    backlog = Backlog(limit=3)
    backlog.grew()
    submitted_before = backlog.submitted
    for _ in range(3):
        backlog.grew()
    backlog.counted(1, submitted_before)
    assert backlog.size == 4
    with pytest.raises(Backlogged):
        backlog.admit(Priority.LOW)


def test_a_count_is_believed_when_nothing_came_meanwhile() -> None:
    backlog = Backlog(limit=3)
    for _ in range(9):
        backlog.grew()
    backlog.counted(2, backlog.submitted)
    backlog.admit(Priority.LOW)
    assert backlog.size == 2
