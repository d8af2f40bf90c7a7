"""`meshwright memories`: what is remembered of you, and forgetting it."""

from __future__ import annotations

import sys
from typing import Annotated, Final
from urllib.parse import quote, urlencode

import typer

from meshwright_cli.commands.events.printing import ask, printable, show_json, show_table
from meshwright_cli.exits import refused
from meshwright_cli.http_api import JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/memories"
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SessionOption = Annotated[str, typer.Option("--session", help="Only those of this session.")]


@app.callback()
def memories() -> None:
    """List, search and forget what is remembered of you."""


@app.command("list")
def list_memories(
    session: SessionOption = "",
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also those that hold no longer.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List memories, newest first."""
    query = {"page_size": limit, "include_superseded": str(superseded).lower()}
    wanted = urlencode(query | ({"session_id": session} if session else {}))
    found = call_api(data, url, key, lambda api: api.get(f"{PATH}?{wanted}"))["memories"]
    _show(found, as_json=as_json)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    limit: Annotated[int, typer.Option(min=1, max=50, help="How many.")] = 5,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Find memories that fit a question, best first."""
    body: JsonObject = {"query": query, "top_k": limit}
    answer = call_api(data, url, key, lambda api: api.post(f"{PATH}/search", body))
    _show([one["memory"] for one in answer["memories"]], as_json=as_json)


@app.command()
def forget(
    memory_id: Annotated[str, typer.Argument(help="The memory's id.")] = "",
    session: SessionOption = "",
    everything: Annotated[bool, typer.Option("--all", help="All that is remembered.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Forget a memory, those of a session, or all of them."""
    if (bool(memory_id), bool(session), everything).count(True) != 1:
        raise refused("give a memory's id, --session or --all: one of them")
    if everything and not ask("Forget all that is remembered of you?", yes):
        return
    if memory_id:
        call_api(data, url, key, lambda api: api.delete(f"{PATH}/{quote(memory_id, safe='')}"))
        return
    wanted = urlencode({"all": "true"} if everything else {"session_id": session})
    done = call_api(data, url, key, lambda api: api.delete(f"{PATH}?{wanted}"))
    sys.stdout.write(f"{done['forgotten_count']}\n")


def _show(found: list[JsonObject], *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    show_table(
        *("memory", "kind", "origin", "stored", "text"),
        rows=[
            (
                one["memory_id"],
                one["kind"],
                one["origin"],
                one["update_time"],
                printable(" ".join(one["text"].split())),
            )
            for one in found
        ],
    )
