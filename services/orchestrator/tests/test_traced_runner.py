"""Attempts of tasks in traces: their ids are known to whoever comes after them."""

from __future__ import annotations

import re

from meshwright_orchestrator.workers.traced_runner import attempt_span

TASK = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_the_span_of_an_attempt_has_the_same_id_in_every_process() -> None:
    assert "00d9e9cbef38c59c" == attempt_span(TASK, 1)


def test_each_attempt_has_a_span_of_its_own() -> None:
    ids = {attempt_span(TASK, number) for number in range(1, 50)}
    assert 49 == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)
