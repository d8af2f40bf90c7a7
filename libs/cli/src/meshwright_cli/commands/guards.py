"""`meshwright guards`: what is read on its way to models and back."""

from __future__ import annotations

import sys
from typing import Annotated, Final
from urllib.parse import quote

import typer

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.exits import refused
from meshwright_cli.http_api import JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/guards"
KINDS: Final = ("regex", "pii", "words", "http", "python")
ALL: Final = "all"
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NameArgument = Annotated[str, typer.Argument(help="The guard's name.", show_default=False)]


@app.callback()
def guards() -> None:
    """Set, list, try and remove the tenant's guards; the operator's are shown as well."""


@app.command("list")
def list_guards(
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List guards by name."""

    found = call_api(data, url, key, lambda api: api.listed(PATH, "guards"))
    if as_json:
        show_json(found)
        return
    show_table(
        *("guard", "looks for", "side", "action", "models", "owner", "state"),
        rows=[
            (
                one["name"],
                _looks_for(one),
                one["side"],
                one["action"],
                ",".join(one["models"]) or "all",
                "operator" if one["operator_owned"] else "tenant",
                "disabled" if one["disabled"] else "enabled",
            )
            for one in found
        ],
    )


@app.command("set")
def set_guard(  # noqa: PLR0913, PLR0917 - one argument for each option
    name: NameArgument,
    action: Annotated[str, typer.Option(help="block, redact or report.", show_default=False)],
    side: Annotated[str, typer.Option(help="input, output or both.")] = "both",
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="A word or phrase; repeatable.")
    ] = None,
    regex: Annotated[
        list[str] | None, typer.Option("--regex", help="A pattern of RE2; repeatable.")
    ] = None,
    longest_match: Annotated[
        int, typer.Option(min=0, max=512, help="Of patterns: characters. 0: 128.")
    ] = 0,
    pii: Annotated[
        str, typer.Option(help="Personal data: email,phone,… or all.", show_default=False)
    ] = "",
    judge: Annotated[str, typer.Option(help="URL of a judge.", show_default=False)] = "",
    fail_open: Annotated[
        bool, typer.Option("--fail-open", help="Let pass what the judge does not answer.")
    ] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="A model's name, * for any part; repeatable.")
    ] = None,
    replacement: Annotated[str, typer.Option(help="Of what is redacted.")] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Keep it, apply it not.")] = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Create a guard, or replace the one of this name."""
    kinds: JsonObject = {}
    if phrase:
        kinds["words"] = {"phrases": phrase}
    if regex:
        kinds["regex"] = {"patterns": regex, "longest_match": longest_match}
    if pii:
        kinds["pii"] = {"kinds": [] if pii == ALL else pii.split(",")}
    if judge:
        kinds["http"] = {"url": judge, "fail_open": fail_open}
    if len(kinds) != 1:
        raise refused("give one kind: --phrase, --regex, --pii or --judge")
    body: JsonObject = {
        **kinds,
        "side": side,
        "action": action,
        "models": model or [],
        "replacement": replacement,
        "disabled": disabled,
    }
    call_api(data, url, key, lambda api: api.put(_path(name), body))


@app.command()
def remove(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Remove a guard of the tenant."""
    call_api(data, url, key, lambda api: api.delete(_path(name)))


@app.command()
def check(
    text: Annotated[str, typer.Argument(help="The text to try.", show_default=False)],
    side: Annotated[str, typer.Option(help="input or output.")] = "input",
    model: Annotated[str, typer.Option(help="Default: the default model.")] = "",
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Say what the guards in force would do with a text."""
    body: JsonObject = {"text": text, "side": side, "model": model}
    found = call_api(data, url, key, lambda api: api.post(f"{PATH}/check", body))
    if as_json:
        show_json(found)
        return
    sys.stdout.write("blocked\n" if found["blocked"] else f"passes: {found['text']}\n")
    for one in found["findings"]:
        words = (one["guard"], one["category"], one["action"], f"{one['count']}x")
        sys.stdout.write(f"  {' '.join(words)}\n")


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"


def _looks_for(guard: JsonObject) -> str:
    kind = next((one for one in KINDS if guard[one] is not None), "")
    looks = guard[kind] if kind else {}
    if kind == "words":
        return f"{len(looks['phrases'])} phrases"
    if kind == "regex":
        return f"{len(looks['patterns'])} patterns"
    if kind == "pii":
        return ",".join(looks["kinds"]) or "all personal data"
    return str(looks["url"]) if kind == "http" else f"code {looks}"
