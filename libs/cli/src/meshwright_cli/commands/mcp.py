"""`meshwright mcp`: MCP servers whose tools agents use."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final
from urllib.parse import quote

import typer

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.exits import refused
from meshwright_cli.http_api import JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/mcp/servers"
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NameArgument = Annotated[str, typer.Argument(help="The server's name.", show_default=False)]


@app.callback()
def mcp() -> None:
    """Add, list, refresh and remove the tenant's MCP servers; the operator's are shown as well."""


@app.command("list")
def list_servers(
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List servers by name, and how they do."""

    found = call_api(data, url, key, lambda api: api.listed(PATH, "servers"))
    if as_json:
        show_json(found)
        return
    show_table(
        *("server", "state", "tools", "to approve", "owner", "address", "why"),
        rows=[
            (
                one["name"],
                one["state"],
                str(one["tool_count"]),
                str(one["pending_tool_count"]),
                "operator" if one["operator_owned"] else "tenant",
                one["url"] or one["transport"],
                one["failure_message"],
            )
            for one in found
        ],
    )


@app.command()
def add(  # noqa: PLR0913, PLR0917 - one argument for each option
    name: NameArgument,
    address: Annotated[str, typer.Argument(help="Its https address.", show_default=False)],
    transport: Annotated[str, typer.Option(help="streamable_http or sse.")] = "streamable_http",
    token_env: Annotated[
        str, typer.Option(help="Environment variable that holds its bearer token.")
    ] = "",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    approve: Annotated[
        bool, typer.Option("--approve", help="Approve all tools that it offers now.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Believe which of its tools only read.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a server of this name.")
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Add a server and show what it offers."""
    body: JsonObject = {
        "name": name,
        "url": address,
        "transport": transport,
        "description": description,
        "approve_tools": approve,
        "trust_annotations": trust,
        "replace": replace,
    }
    if token_env:
        token = os.environ.get(token_env, "")
        if not token:
            raise refused(f"the environment variable {token_env} is empty")
        body["credential"] = {"bearer_token": token}
    _show(call_api(data, url, key, lambda api: api.post(PATH, body)), as_json=as_json)


@app.command()
def show(
    name: NameArgument,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Show a server and its tools."""
    _show(call_api(data, url, key, lambda api: api.get(_path(name))), as_json=as_json)


@app.command()
def refresh(
    name: NameArgument,
    approve: Annotated[
        list[str] | None,
        typer.Option("--approve", help="Hash of a definition to approve; repeatable."),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Ask a server anew what it offers, and approve definitions."""
    body: JsonObject = {"approve_definitions": approve or []}
    answer = call_api(data, url, key, lambda api: api.post(f"{_path(name)}/refresh", body))
    _show(answer, as_json=as_json)


@app.command()
def remove(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Remove a server of the tenant."""
    call_api(data, url, key, lambda api: api.delete(_path(name)))


def _path(name: str) -> str:
    return f"{PATH}/{quote(name, safe='')}"


def _show(server: JsonObject, *, as_json: bool) -> None:
    if as_json:
        show_json(server)
        return
    why = f": {server['failure_message']}" if server["failure_message"] else ""
    sys.stdout.write(f"{server['name']} is {server['state']}{why}\n")
    show_table(
        *("tool", "effect", "approved", "definition"),
        rows=[
            (
                tool["name"],
                tool["effect"],
                "yes" if tool["approved"] else "no",
                tool["definition_sha256"],
            )
            for tool in server["tools"]
        ],
    )
