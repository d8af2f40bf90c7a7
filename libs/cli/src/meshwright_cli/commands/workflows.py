"""`meshwright workflows`: store them, start them, see how they go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote, urlencode

import typer

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.http_api import Api, JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption
from meshwright_cli.run_tree import tree_of
from meshwright_common.workflows import Workflow, read

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/workflows"
STANDARD_INPUT: Final = "-"
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
RunArgument = Annotated[str, typer.Argument(help="The run's id.", show_default=False)]


@app.callback()
def workflows() -> None:
    """Store workflows, start and cancel their runs, show how far they are."""


@app.command()
def create(
    file: Annotated[
        str, typer.Argument(help="The workflow in YAML or JSON; - reads it.", show_default=False)
    ],
    expected_version: Annotated[
        int, typer.Option(help="Newest version you know, 0: it must be new. -1: any.")
    ] = -1,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Store a workflow, or its next version; the same once more makes none."""
    flow = _workflow_in(file)
    body: JsonObject = {"name": flow.name, "definition": flow.definition}
    if expected_version >= 0:
        body["expected_version"] = expected_version
    stored = call_api(data, url, key, lambda api: api.post(PATH, body))
    if as_json:
        show_json(stored)
        return
    sys.stdout.write(f"{stored['name']} {stored['version']}\n")


@app.command("list")
def list_workflows(
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List workflows by name."""

    found = call_api(data, url, key, lambda api: api.listed(PATH, "workflows"))
    if as_json:
        show_json(found)
        return
    show_table(
        *("workflow", "version", "changed", "id", "what it does"),
        rows=[
            (
                one["name"],
                str(one["version"]),
                one["update_time"],
                one["workflow_id"],
                one["definition"]["description"].partition("\n")[0],
            )
            for one in found
        ],
    )


@app.command()
def start(
    name: Annotated[str, typer.Argument(help="The workflow.", show_default=False)],
    given: Annotated[
        str, typer.Option("--input", help="Its input: JSON, or @FILE, or @- to read it.")
    ] = "{}",
    version: Annotated[int, typer.Option(min=0, help="0: the newest.")] = 0,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Start a run and print its id. It goes on when nobody waits."""
    body: JsonObject = {"input": _input_of(given), "version": version}

    async def begin(api: Api) -> JsonObject:
        workflow = await _named(api, name)
        return await api.post(f"{PATH}/{workflow['workflow_id']}/runs", body)

    run = call_api(data, url, key, begin)
    sys.stdout.write(f"{run['run_id']}\n")


@app.command()
def runs(
    name: Annotated[str, typer.Argument(help="Only of this workflow.")] = "",
    state: Annotated[str, typer.Option(help="Only these: running, waiting, completed, …")] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List runs, newest first."""

    async def rows(api: Api) -> JsonObject:
        query = {"page_size": str(limit), **({"state": state} if state else {})}
        if name:
            query["workflow_id"] = (await _named(api, name))["workflow_id"]
        return await api.get(f"{PATH}/runs?{urlencode(query)}")

    found = call_api(data, url, key, rows)["runs"]
    if as_json:
        show_json(found)
        return
    show_table(
        *("run", "workflow", "version", "state", "created", "ended"),
        rows=[
            (
                run["run_id"],
                run["workflow_id"],
                str(run["workflow_version"]),
                run["state"],
                run["create_time"],
                run["end_time"] or "",
            )
            for run in found
        ],
    )


@app.command()
def show(
    run_id: RunArgument,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Show a run as a tree: each step below the one that it waited for last."""

    async def read_both(api: Api) -> JsonObject:
        run = await api.get(_run_path(run_id))
        if as_json:
            return {"run": run}
        path = f"{PATH}/{run['workflow_id']}?version={run['workflow_version']}"
        return {"run": run, "workflow": await api.get(path)}

    found = call_api(data, url, key, read_both)
    if as_json:
        show_json(found["run"])
        return
    for line in tree_of(found["workflow"], found["run"], colours=sys.stdout.isatty()):
        sys.stdout.write(f"{line}\n")


@app.command()
def cancel(
    run_id: RunArgument, data: DataOption = DEFAULT_DATA, url: UrlOption = "", key: KeyOption = ""
) -> None:
    """Cancel a run and print its state; one that has ended stays as it is."""
    run = call_api(data, url, key, lambda api: api.post(f"{_run_path(run_id)}/cancel", {}))
    sys.stdout.write(f"{run['state']}\n")


def _run_path(run_id: str) -> str:
    return f"{PATH}/runs/{quote(run_id, safe='')}"


def _workflow_in(file: str) -> Workflow:
    try:
        return read(_text_of(file))
    except ValueError as error:
        raise refused(f"{file} {error}") from None


def _text_of(file: str) -> str:
    if file == STANDARD_INPUT:
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from None


def _input_of(given: str) -> JsonObject:
    text = _text_of(given[1:]) if given.startswith("@") else given
    try:
        content = json.loads(text)
    except ValueError as error:
        raise refused(f"--input is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise refused("--input must be a JSON object")
    return content


async def _named(api: Api, name: str) -> JsonObject:
    for workflow in await api.listed(PATH, "workflows"):
        if workflow["name"] == name:
            return workflow
    raise CommandError(f"there is no workflow named {name}: see `meshwright workflows list`")
