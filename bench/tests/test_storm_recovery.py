"""How long tasks stood still: counted from deaths that the log tells of, whoever caused them."""

from __future__ import annotations

from pathlib import Path

from bench.storm_recovery import WORKERS, Death, DeathLog, Moment, recoveries


def died(at: str, member: str) -> str:
    return f'{{"member":"{member}","event":"member_died","timestamp":"2026-01-01T00:00:{at}Z"}}\n'


def test_deaths_are_read_once_also_when_the_log_was_started_anew(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    file = tmp_path / "logs" / "platform.log"
    file.write_text("no JSON\n" + died("01.5", "rag"))
    log = DeathLog(tmp_path)
    log.look()
    with file.open("a") as more:
        more.write(died("02.5", "chat")[:20])
    log.look()
    with file.open("a") as more:
        more.write(died("02.5", "chat")[20:])
    file.rename(tmp_path / "logs" / "platform.log.1")
    file.write_text(died("03.5", WORKERS))
    assert [death.service for death in log.look()] == ["rag", "chat", WORKERS]
    assert log.deaths[2].at - log.deaths[0].at == 2


def test_a_task_taken_over_stood_still_from_the_death_of_its_process() -> None:
    deaths = [Death(5, "rag"), Death(10, WORKERS), Death(12, WORKERS), Death(90, WORKERS)]
    moments = [
        Moment(8, "queued", 0),
        Moment(9, "running", 1),
        Moment(9.5, "step", 1),
        # The one that died at 12 did not have it.
        Moment(20, "running", 2),
        Moment(21, "completed", 2),
    ]
    found = recoveries(deaths, {"one": moments, "untouched": moments[:2]})
    assert (found.taken_over, found.held_up) == ([10], [])


def test_a_step_put_off_is_held_up_until_it_is_done() -> None:
    deaths = [Death(10, "model-router")]
    tries = [
        Moment(11, "queued", 1),
        Moment(12, "running", 2),
        Moment(13, "queued", 2),
        Moment(14, "running", 3),
    ]
    broken = [Moment(9, "running", 1), *tries, Moment(15, "step", 3), Moment(16, "completed", 3)]
    late = [Moment(10.5, "running", 1), *tries, Moment(18, "completed", 3)]
    assert recoveries(deaths, {"broken": broken, "late": late}).held_up == [5, 7.5]
