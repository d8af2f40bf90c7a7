"""`meshwright tasks interrupts` and `answer`: what tasks ask people, and the answers."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Final
from urllib.parse import quote

import typer

from meshwright_cli.commands.events.printing import printable, show_json
from meshwright_cli.exits import CommandError
from meshwright_cli.http_api import Api, JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

PATH: Final = "/api/v1/interrupts"
TaskArgument = Annotated[str, typer.Argument(help="The task's id.", show_default=False)]


def interrupts(
    task_id: Annotated[str, typer.Argument(help="Only of this task.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List what tasks ask you, oldest first."""
    path = f"{PATH}?page_size={limit}" + (f"&task_id={quote(task_id, safe='')}" if task_id else "")
    found = call_api(data, url, key, lambda api: api.get(path))["interrupts"]
    if as_json:
        show_json(found)
        return
    sys.stdout.write("\n".join(lines_of(asked) for asked in found))


def answer(  # noqa: PLR0913, PLR0917 - arguments and options of a command
    task_id: TaskArgument,
    interrupt_id: Annotated[
        str, typer.Argument(help="Which of its questions; not needed when it is one.")
    ] = "",
    approve: Annotated[
        bool | None, typer.Option("--approve/--refuse", help="Whether the call may be made.")
    ] = None,
    given: Annotated[
        str, typer.Option("--answer", help="The answer, a JSON object; or any text for {answer}.")
    ] = "",
    comment: Annotated[str, typer.Option(help="Told to the agent with --refuse.")] = "",
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Answer what a task asks, and print the task's state."""
    content = _content(approve, given, comment)

    async def send(api: Api) -> JsonObject:
        asked = interrupt_id or await _only_one(api, task_id)
        path = f"/api/v1/tasks/{quote(task_id, safe='')}/resume"
        return await api.post(path, {"interrupt_id": asked, "answer": content})

    task = call_api(data, url, key, send)
    sys.stdout.write(f"{task['state']}\n")


def _content(approve: bool | None, given: str, comment: str) -> JsonObject:
    if (approve is None) == (not given):
        raise CommandError("give one of --approve, --refuse and --answer")
    if approve is not None:
        return {"approved": approve} | ({"comment": comment} if comment else {})
    if comment:
        raise CommandError("--comment goes with --approve or --refuse")
    try:
        content = json.loads(given)
    except ValueError:
        content = given
    return content if isinstance(content, dict) else {"answer": given}


async def _only_one(api: Api, task_id: str) -> str:
    found = (await api.get(f"{PATH}?task_id={quote(task_id, safe='')}"))["interrupts"]
    if len(found) != 1:
        asked = "".join(f"\n  {one['interrupt_id']}  {_what(one)}" for one in found)
        raise CommandError(f"the task asks {len(found)} questions: name one{asked}")
    return str(found[0]["interrupt_id"])


def lines_of(asked: JsonObject) -> str:
    """Return a question as people read it: what, by whom, how to answer, until when."""
    schema = asked["answer_schema"]
    lines = [
        f"{asked['task_id']}  {printable(asked['agent'])}  until {asked['expire_time']}",
        f"  {_what(asked)}",
    ]
    if asked["kind"] == "approval":
        lines.append("  --approve or --refuse")
    elif schema is not None:
        lines.append(f"  --answer as {printable(json.dumps(schema, ensure_ascii=False))}")
    lines.append(f"  meshwright tasks answer {asked['task_id']} {asked['interrupt_id']}")
    return "\n".join(lines) + "\n"


def _what(asked: JsonObject) -> str:
    call = asked["tool_call"]
    if call is not None:
        return printable(f"{asked['question']} {call['name']} {call['arguments_json']}")
    if asked["question"]:
        return printable(asked["question"])
    return printable(json.dumps(asked["payload"], ensure_ascii=False))
