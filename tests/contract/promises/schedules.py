"""Promises: what starts by the clock."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

SCHEDULES: dict[str, Promise] = {
    "CLOCK-01": Promise(
        "A schedule is made by cron expression and zone, listed with its next firing, paused, "
        "resumed and deleted; the same Idempotency-Key makes it once, and other users do not see "
        "it.",
        "features.md O9; workflow_service.proto",
    ),
    "CLOCK-02": Promise(
        "A firing starts one task of the user who made the schedule, within 2 s, however many "
        "processes look.",
        "features.md O9; issue 6, build 7",
    ),
    "CLOCK-03": Promise(
        "A task with a start time begins then and not before, is shown with it, and can be "
        "cancelled meanwhile.",
        "features.md O9 (delayed tasks); issue 6, build 7",
    ),
    "CLOCK-04": Promise(
        "A cron expression, zone, interval or moment that cannot be is refused by its field.",
        "schedule.proto",
    ),
    "CLOCK-05": Promise(
        "The schedule of a user who was disabled starts nothing: it is paused with the reason, and "
        "the administrators are told.",
        "schedule.proto; issue 6, build 7",
    ),
    "CLOCK-06": Promise(
        "Schedules are made, listed with readable times, paused, resumed and deleted by command.",
        "issue 6, build 7",
    ),
}
