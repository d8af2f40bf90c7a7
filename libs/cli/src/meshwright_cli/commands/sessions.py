"""`meshwright sessions`: your conversations, found, branched, in the archive and back."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote, urlencode

import typer

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.http_api import JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/sessions"
SHOWN_CHARACTERS: Final = 100
"""Of a message in the table of what was found."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option(min=1, max=200, help="How many.")]
SessionArgument = Annotated[str, typer.Argument(help="The session's id.", show_default=False)]


@app.callback()
def sessions() -> None:
    """List your sessions, search what was said, branch, archive and restore."""


@app.command("list")
def list_sessions(
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List sessions, last used first."""
    found = call_api(data, url, key, lambda api: api.get(f"{PATH}?page_size={limit}"))["sessions"]
    _show(found, as_json=as_json)


@app.command()
def search(
    words: Annotated[str, typer.Argument(help="Words that are all in it.", show_default=False)],
    session: Annotated[str, typer.Option("--session", help="Only in this session.")] = "",
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Find messages by their words, newest first. The archive is not looked through."""
    query = urlencode({"q": words, "session_id": session, "page_size": limit})
    answer = call_api(data, url, key, lambda api: api.get(f"/api/v1/messages/search?{query}"))
    if as_json:
        show_json(answer["messages"])
        return
    show_table(
        *("session", "message", "said", "role", "text"),
        rows=[
            (
                one["session_id"],
                str(one["sequence"]),
                one["create_time"],
                one["role"],
                " ".join("".join(part["text"] for part in one["parts"]).split())[:SHOWN_CHARACTERS],
            )
            for one in answer["messages"]
        ],
    )


@app.command()
def branch(
    session_id: SessionArgument,
    sequence: Annotated[
        int, typer.Argument(min=0, help="Last message that is taken over.", show_default=False)
    ],
    title: Annotated[str, typer.Option(help="Empty: that of the session.")] = "",
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Make a session that goes on behind a message of another one."""
    body: JsonObject = {"sequence": sequence, "title": title}
    made = call_api(data, url, key, lambda api: api.post(f"{_path(session_id)}/branch", body))
    _show([made], as_json=as_json)


@app.command()
def archive(
    session_id: SessionArgument,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Move a session's messages to the archive. Whatever uses them brings them back."""
    moved = call_api(data, url, key, lambda api: api.post(f"{_path(session_id)}/archive", {}))
    _show([moved], as_json=as_json)


@app.command()
def restore(
    session_id: SessionArgument,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Bring a session back from the archive."""
    moved = call_api(data, url, key, lambda api: api.post(f"{_path(session_id)}/restore", {}))
    _show([moved], as_json=as_json)


def _path(session_id: str) -> str:
    return f"{PATH}/{quote(session_id, safe='')}"


def _show(found: list[JsonObject], *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    show_table(
        *("session", "last used", "messages", "archived", "title"),
        rows=[
            (
                one["session_id"],
                one["update_time"],
                str(one["message_count"]),
                "yes" if one["archived"] else "",
                one["title"],
            )
            for one in found
        ],
    )
