"""`meshwright tasks`: hand work to the agents, see how it goes."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import quote

import typer

from meshwright_cli.commands.events.printing import printable, show_json, show_table
from meshwright_cli.commands.task_interrupts import answer, interrupts
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.http_api import Api, Disconnected, JsonObject, ServerEvent, call_api
from meshwright_cli.moments import duration_of, moment_of
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption
from meshwright_cli.teamwork import PlanLines, child_line

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/tasks"
RESUMES: Final = 5
"""How often a broken stream is taken up again without a new event."""
RESUME_PAUSE_SECONDS: Final = 1.0
TaskArgument = Annotated[str, typer.Argument(help="The task's id.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Priority(StrEnum):
    """How urgent a task is."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@app.callback()
def tasks() -> None:
    """Hand tasks to the workers; list, show, follow and cancel them; answer what they ask."""


@app.command()
def submit(  # noqa: PLR0913, PLR0917 - one argument for each option
    message: Annotated[str, typer.Argument(help="What to do.", show_default=False)],
    agent: Annotated[str, typer.Option(help="Who does it: rag, chat, tool_call, …")] = "chat",
    model: Annotated[str, typer.Option(help="Model to use instead of the agent's.")] = "",
    priority: Annotated[Priority, typer.Option(help="Its lane.")] = Priority.NORMAL,
    at: Annotated[str, typer.Option(help="Not before this, such as 2026-12-24T18:00.")] = "",
    after: Annotated[str, typer.Option("--in", help="Not before so long, such as 90s or 2h.")] = "",
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Hand a task to the workers and print its id. It is done even when nobody waits."""
    body: JsonObject = {"agent": agent, "message": message, "priority": priority.value}
    if model:
        body["model"] = model
    if at and after:
        raise refused("give either --at or --in")
    if at:
        body["start_time"] = moment_of(at, "--at").isoformat()
    if after:
        body["start_time"] = (datetime.now(UTC) + duration_of(after, "--in")).isoformat()
    task = call_api(data, url, key, lambda api: api.post(PATH, body))
    sys.stdout.write(f"{task['task_id']}\n")


@app.command("list")
def list_tasks(
    state: Annotated[str, typer.Option(help="Only these: queued, running, completed, …")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List tasks, newest first."""
    path = f"{PATH}?page_size={limit}" + (f"&state={quote(state)}" if state else "")
    found = call_api(data, url, key, lambda api: api.get(path))["tasks"]
    if as_json:
        show_json(found)
        return
    show_table(
        *("task", "agent", "state", "attempt", "created", "ended"),
        rows=[
            (
                task["task_id"],
                task["agent"],
                task["state"],
                str(task["attempt"]),
                task["create_time"],
                task["end_time"] or "",
            )
            for task in found
        ],
    )


@app.command()
def show(
    task_id: TaskArgument, data: DataOption = DEFAULT_DATA, url: UrlOption = "", key: KeyOption = ""
) -> None:
    """Show a task as JSON."""
    task = call_api(data, url, key, lambda api: api.get(f"{PATH}/{quote(task_id, safe='')}"))
    sys.stdout.write(json.dumps(task, indent=2, ensure_ascii=False) + "\n")


@app.command()
def cancel(
    task_id: TaskArgument, data: DataOption = DEFAULT_DATA, url: UrlOption = "", key: KeyOption = ""
) -> None:
    """Cancel a task and print its state; one that has ended stays as it is."""
    path = f"{PATH}/{quote(task_id, safe='')}/cancel"
    task = call_api(data, url, key, lambda api: api.post(path, {}))
    sys.stdout.write(f"{task['state']}\n")


@app.command()
def replay(
    task_id: TaskArgument, data: DataOption = DEFAULT_DATA, url: UrlOption = "", key: KeyOption = ""
) -> None:
    """Run a task's journal through the decider of today. Exit code 1 when it decides otherwise."""
    path = f"{PATH}/{quote(task_id, safe='')}/replay"
    found = call_api(data, url, key, lambda api: api.get(path))
    if not found["identical"]:
        raise CommandError(f"step {found['first_difference']} would be another one now")
    sys.stdout.write("identical\n")


@app.command()
def watch(
    task_id: TaskArgument, data: DataOption = DEFAULT_DATA, url: UrlOption = "", key: KeyOption = ""
) -> None:
    """Follow a task to its end. Exit code 1 when it fails."""
    failure = call_api(data, url, key, lambda api: _follow(api, task_id))
    if failure:
        raise CommandError(f"{failure['message']} ({failure['reason']})")


app.command()(interrupts)
app.command()(answer)


async def _follow(api: Api, task_id: str) -> JsonObject:
    """Print the answer as it comes; return why there is none, or nothing."""
    path = f"{PATH}/{quote(task_id, safe='')}/events"
    last_event_id, failures, printed = "", 0, _Printed()
    while True:
        seen = last_event_id
        broken = Disconnected("the stream ended before the task")
        try:
            async for event in api.events("GET", path, last_event_id=last_event_id):
                last_event_id = event.event_id or last_event_id
                printed.show(event)
                if event.name in {"task.completed", "task.failed"}:
                    sys.stdout.write("\n")
                    return event.data if event.name == "task.failed" else {}
        except Disconnected as error:
            broken = error
        failures = 1 if last_event_id != seen else failures + 1
        if failures > RESUMES:
            raise broken
        await asyncio.sleep(RESUME_PAUSE_SECONDS)


class _Printed:
    """What stands on the terminal of an answer. What is told again is not printed again."""

    def __init__(self) -> None:
        self._kept = 0
        self._told = 0
        self._printed = 0
        self._plan = PlanLines()

    def show(self, event: ServerEvent) -> None:
        match event.name:
            case "task.started":
                # What had no checkpoint comes again.
                self._told = self._kept
            case "task.checkpoint":
                self._kept = int(event.data["answer_characters"])
            case "message.delta":
                self._say(str(event.data["text"]))
            case "tool.call":
                name = printable(str(event.data["name"]))
                sys.stderr.write(f"▸ {name} {printable(str(event.data['arguments_json']))}\n")
            case "task.child":
                sys.stderr.write(f"{printable(child_line(event.data))}\n")
            case "plan":
                for line in self._plan.of(event.data):
                    sys.stderr.write(f"{printable(line)}\n")
            case "interrupt":
                asked = printable(str(event.data["question"] or event.data["interrupt_id"]))
                sys.stderr.write(f"▸ waits for you: {asked}\n")

    def _say(self, text: str) -> None:
        new = text[max(self._printed - self._told, 0) :]
        self._told += len(text)
        self._printed = max(self._printed, self._told)
        sys.stdout.write("".join(one if one == "\n" else printable(one) for one in new))
        sys.stdout.flush()
