"""`meshwright agents`: define agents by a file, see their versions, roll them back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
import yaml

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.exits import refused
from meshwright_cli.http_api import JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/agents"
REMOTE: Final = "remote"
MAX_FILE_BYTES: Final = 1024 * 1024
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NameArgument = Annotated[str, typer.Argument(help="The agent's name.", show_default=False)]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as people do."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


@app.callback()
def agents() -> None:
    """Define, list and show agents; roll them back to an older version."""


@app.command("list")
def list_agents(
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List agents by name, those that come with the platform included."""
    found = call_api(data, url, key, lambda api: api.listed(PATH, "agents"))
    if as_json:
        show_json(found)
        return
    show_table(
        *("agent", "type", "version", "online", "owner", "description"),
        rows=[
            (
                one["name"],
                one["type"],
                str(one["version"]),
                str(one["online_instances"]) if one["type"] == REMOTE else "",
                "platform" if one["builtin"] else "tenant",
                one["description"],
            )
            for one in found
        ],
    )


@app.command()
def show(
    name: NameArgument,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Show an agent as a file that `define` takes: its newest version in use. Of one that joined
    from outside, show its instances."""
    found = call_api(data, url, key, lambda api: api.get(_path(name)))
    if as_json:
        show_json(found)
        return
    if found["type"] == REMOTE:
        _show_instances(found["instances"])
        return
    shown = {"name": found["name"], "description": found["description"]}
    definition = found["definition"] or {"type": found["type"]}
    shown["definition"] = {part: value for part, value in definition.items() if _says(value)}
    sys.stdout.write(yaml.dump(shown, Dumper=_Dumper, allow_unicode=True, sort_keys=False))


@app.command()
def define(  # noqa: PLR0913, PLR0917 - one argument for each option
    file: Annotated[
        Path, typer.Argument(help="YAML: name, description, definition.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="Instead of the file's name.")] = "",
    traffic: Annotated[
        int | None,
        typer.Option(
            min=0, max=100, help="Percent of new tasks. Default: all.", show_default=False
        ),
    ] = None,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    expected_version: Annotated[
        int | None,
        typer.Option(min=0, help="Refuse if it is not the newest; 0: new.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Define an agent, or its next version; the same definition again only moves traffic."""
    body = _read(file)
    name = name or str(body.pop("name", ""))
    body.pop("name", None)
    if not name:
        raise refused(f"{file}: name is missing: the agent's name")
    for field, value in (
        ("traffic_percent", traffic),
        ("expected_version", expected_version),
        ("comment", comment or None),
    ):
        if value is not None:
            body[field] = value
    made = call_api(data, url, key, lambda api: api.put(_path(name), body))
    if as_json:
        show_json(made)
        return
    sys.stdout.write(
        f"{made['agent']} version {made['version']}: {made['traffic_percent']} % of new tasks\n"
    )


@app.command()
def versions(
    name: NameArgument,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List the versions of an agent, newest first, with their shares of new tasks."""
    path = f"{_path(name)}/versions"
    found = call_api(data, url, key, lambda api: api.listed(path, "versions"))
    if as_json:
        show_json(found)
        return
    show_table(
        *("version", "traffic", "made", "by", "comment"),
        rows=[
            (
                str(one["version"]),
                f"{one['traffic_percent']} %",
                one["create_time"],
                one["created_by"],
                one["comment"],
            )
            for one in found
        ],
    )


@app.command()
def rollback(
    name: NameArgument,
    version: Annotated[int, typer.Argument(min=1, help="Who answers again.", show_default=False)],
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Give a version all new tasks."""
    body: JsonObject = {"version": version}
    made = call_api(data, url, key, lambda api: api.post(f"{_path(name)}/rollback", body))
    sys.stdout.write(f"{made['name']} version {made['version']}: 100 % of new tasks\n")


def _show_instances(instances: list[JsonObject]) -> None:
    show_table(
        *("instance", "address", "state", "weight", "cpu", "memory", "pending", "errors", "heard"),
        rows=[
            (
                one["agent_instance_id"],
                one["address"],
                one["state"],
                str(one["weight"]),
                _percent(one["cpu_free"]),
                _percent(one["memory_free"]),
                f"{one['pending_tasks'] or 0} of {one['max_concurrent_tasks']}",
                _percent(one["error_rate"]),
                one["heartbeat_time"] or "never",
            )
            for one in instances
        ],
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _read(file: Path) -> JsonObject:
    """Return what a file says. Raises: CommandError when it is none of an agent."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise refused(f"{file}: {error.strerror}") from None
    if len(text) > MAX_FILE_BYTES:
        raise refused(f"{file}: must be at most {MAX_FILE_BYTES} bytes")
    try:
        body: Any = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise refused(f"{file}: is no YAML: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("definition"), dict):
        raise refused(f"{file}: must be a mapping with name and definition")
    return body


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"


def _says(value: object) -> bool:
    if isinstance(value, dict):
        return any(_says(one) for one in value.values())
    return value not in (None, "", [])
