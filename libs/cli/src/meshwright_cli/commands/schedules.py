"""`meshwright schedules`: what starts by the clock."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.http_api import Api, JsonObject, call_api
from meshwright_cli.moments import duration_of, moment_of, told
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/schedules"
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ScheduleArgument = Annotated[
    str, typer.Argument(help="The schedule's name or id.", show_default=False)
]


class MissedRuns(StrEnum):
    """What happens to missed firings."""

    LATEST = "latest"
    SKIP = "skip"
    ALL = "all"


@app.callback()
def schedules() -> None:
    """Make tasks and workflows start by the clock; list, pause, resume and delete schedules."""


@app.command()
def create(  # noqa: PLR0913, PLR0917 - one argument for each option
    name: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    message: Annotated[str, typer.Argument(help="What each task is to do.")] = "",
    cron: Annotated[str, typer.Option(help="Cron expression, such as '30 7 * * MON-FRI'.")] = "",
    zone: Annotated[str, typer.Option(help="IANA zone of --cron. Without: UTC.")] = "",
    every: Annotated[str, typer.Option(help="Every so often, such as 15m, 6h or 1d.")] = "",
    at: Annotated[str, typer.Option(help="Once, such as 2026-12-24T18:00.")] = "",
    agent: Annotated[str, typer.Option(help="Who does the tasks: rag, chat, …")] = "chat",
    model: Annotated[str, typer.Option(help="Model to use instead of the agent's.")] = "",
    workflow: Annotated[str, typer.Option(help="Start this workflow (id), not a task.")] = "",
    missed: Annotated[
        MissedRuns, typer.Option(help="What of missed firings is done late.")
    ] = MissedRuns.LATEST,
    start: Annotated[str, typer.Option(help="Not before this moment.")] = "",
    end: Annotated[str, typer.Option(help="Before this moment only.")] = "",
    paused: Annotated[bool, typer.Option(help="Make it, and let it fire nothing yet.")] = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a schedule and say when it fires first. Its tasks act for you."""
    body: JsonObject = {"name": name, "missed_runs": missed.value, "paused": paused}
    body |= _timing(cron, zone, every, at)
    if bool(workflow) == bool(message):
        raise refused("give either a message for an agent, or --workflow")
    if workflow:
        body["workflow"] = {"workflow_id": workflow}
    else:
        body["task"] = {"agent": agent, "message": message} | ({"model": model} if model else {})
    for field, value in (("start_time", start), ("end_time", end)):
        if value:
            body[field] = moment_of(value, f"--{field.removesuffix('_time')}").isoformat()
    made = call_api(data, url, key, lambda api: api.post(PATH, body))
    if as_json:
        show_json(made)
        return
    sys.stdout.write(f"{made['schedule_id']}  next: {_next(made)}\n")


def _timing(cron: str, zone: str, every: str, at: str) -> JsonObject:
    if sum(map(bool, (cron, every, at))) != 1:
        raise refused("give one of --cron, --every and --at")
    if zone and not cron:
        raise refused("--zone belongs to --cron")
    if cron:
        return {"cron": cron, "time_zone": zone}
    if every:
        return {"interval_seconds": duration_of(every, "--every").total_seconds()}
    return {"once": moment_of(at, "--at").isoformat()}


@app.command("list")
def list_schedules(
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List schedules by name, with their next and last firings."""
    found = call_api(data, url, key, lambda api: api.listed(PATH, "schedules"))
    if as_json:
        show_json(found)
        return
    show_table(
        *("name", "when", "starts", "next", "last", "schedule"),
        rows=[
            (one["name"], _when(one), _starts(one), _next(one), _last(one), one["schedule_id"])
            for one in found
        ],
    )


@app.command()
def pause(
    schedule: ScheduleArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Let a schedule fire nothing until it is resumed."""
    call_api(data, url, key, lambda api: _act(api, schedule, "pause"))
    sys.stdout.write("paused\n")


@app.command()
def resume(
    schedule: ScheduleArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Let a schedule go on, and say when it fires next."""
    changed = call_api(data, url, key, lambda api: _act(api, schedule, "resume"))
    sys.stdout.write(f"next: {_next(changed)}\n")


@app.command()
def delete(
    schedule: ScheduleArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Delete a schedule. What it has started goes on."""

    async def remove(api: Api) -> JsonObject:
        found = await _find(api, schedule)
        return await api.delete(f"{PATH}/{found['schedule_id']}")

    call_api(data, url, key, remove)
    sys.stdout.write("deleted\n")


async def _find(api: Api, schedule: str) -> JsonObject:
    for one in await api.listed(PATH, "schedules"):
        if schedule in (one["schedule_id"], one["name"]):
            return one
    raise CommandError(f"there is no schedule {schedule!r} of yours")


async def _act(api: Api, schedule: str, act: str) -> JsonObject:
    found = await _find(api, schedule)
    return await api.post(f"{PATH}/{found['schedule_id']}/{act}", {})


def _when(schedule: JsonObject) -> str:
    if schedule["cron"]:
        return f"{schedule['cron']} {schedule['time_zone']}"
    if schedule["interval_seconds"]:
        return f"every {schedule['interval_seconds']:g} s"
    return "once"


def _starts(schedule: JsonObject) -> str:
    if schedule["task"]:
        return f"task of {schedule['task']['agent']}"
    return f"workflow {schedule['workflow']['workflow_id']}"


def _next(schedule: JsonObject) -> str:
    if schedule["paused"]:
        reason = schedule["pause_reason"]
        return f"paused ({reason})" if reason else "paused"
    return told(schedule["next_run_time"], datetime.now(UTC)) or "ended"


def _last(schedule: JsonObject) -> str:
    return told(schedule["last_run_time"], datetime.now(UTC))
