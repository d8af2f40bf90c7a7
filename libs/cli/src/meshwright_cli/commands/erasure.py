"""`meshwright erasure`: erase users and tenants for good, see how it goes, check receipts."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from meshwright_cli.commands.events.printing import ask, show_json, show_table
from meshwright_cli.exits import CommandError
from meshwright_cli.http_api import Api, JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption
from meshwright_common.erasure.receipt import verifies
from meshwright_common.identity.keys import KeyFileError
from meshwright_common.identity.signing import PUBLIC_FILE, load_record_keys

app = typer.Typer(add_completion=False, no_args_is_help=True)
LOOK_SECONDS: Final = 1.0
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the receipt, and print it.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.callback()
def erasure() -> None:
    """Erase users and tenants from every store, with a signed receipt."""


@app.command()
def user(
    user_id: Annotated[str, typer.Argument(help="The user's id.", show_default=False)],
    keep_documents: Annotated[
        bool, typer.Option("--keep-documents", help="Keep what the user uploaded, nameless.")
    ] = False,
    wait: WaitOption = False,
    yes: YesOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Erase a user of the key's tenant; print the erasure's id, or its receipt."""
    if not ask(f"Erase the user {user_id} for good?", yes):
        return
    path = f"/api/v1/users/{quote(user_id, safe='')}"
    path += "?keep_documents=true" if keep_documents else ""
    _show_begun(call_api(data, url, key, lambda api: _begin(api, path, None, wait=wait)))


@app.command()
def tenant(
    slug: Annotated[
        str, typer.Argument(help="The slug of the key's tenant, to be sure.", show_default=False)
    ],
    yes: YesOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Erase the key's own tenant, the key included; print the erasure's id."""
    if not ask(f"Erase the tenant {slug} with everything in it for good?", yes):
        return
    body = {"confirm_slug": slug}
    _show_begun(
        call_api(data, url, key, lambda api: _begin(api, "/api/v1/tenant", body, wait=False))
    )


@app.command()
def status(
    erasure_id: Annotated[str, typer.Argument(help="The erasure's id.", show_default=False)],
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Show how far an erasure is, store by store."""
    found = call_api(data, url, key, lambda api: api.get(_path(erasure_id)))
    if as_json:
        show_json(found)
        return
    sys.stdout.write(f"{found['kind']} {found['subject_id']}: {found['state']}\n")
    if found["last_error"]:
        sys.stdout.write(f"waits for: {found['last_error']}\n")
    show_table(
        *("service", "store", "removed", "remaining"),
        rows=[
            (
                one["service"],
                one["store"],
                str(one["removed_count"]),
                str(one["remaining_count"]),
            )
            for one in found["stores"]
        ],
    )


@app.command("list")
def list_erasures(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List the tenant's erasures, newest first."""
    path = f"/api/v1/erasures?page_size={limit}"
    found = call_api(data, url, key, lambda api: api.get(path))["erasures"]
    if as_json:
        show_json(found)
        return
    show_table(
        *("erasure", "kind", "subject", "state", "asked for", "completed"),
        rows=[
            (
                one["erasure_id"],
                one["kind"],
                one["subject_id"],
                one["state"],
                one["create_time"],
                one["complete_time"] or "",
            )
            for one in found
        ],
    )


@app.command()
def verify(
    receipt: Annotated[
        Path,
        typer.Argument(help="A file with the receipt as JSON; - reads it.", allow_dash=True),
    ],
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Public keys to trust. Default: the data folder's."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Check the signature of a receipt. Exit code 1 when it is not good."""
    content = _receipt(receipt)
    try:
        keys = load_record_keys(public_key or data / "keys" / PUBLIC_FILE)
    except KeyFileError as error:
        raise CommandError(str(error)) from None
    if not verifies(content, keys):
        raise CommandError("the receipt was altered, or is signed by no key that is trusted")
    sys.stdout.write(
        f"good: {content['kind']} {content['subject_id']} was gone at"
        f" {content['complete_time']}, signed by {content['key_id']}\n"
    )


def _receipt(path: Path) -> dict[str, Any]:
    """Return the receipt in a file, which may hold the whole erasure, or the event."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
        content = json.loads(text)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise CommandError(f"{path} is not JSON") from None
    for inner in ("receipt", "body", "data"):
        if isinstance(content, dict) and isinstance(content.get(inner), dict):
            content = content[inner]
    if not isinstance(content, dict) or "signature" not in content:
        raise CommandError(f"{path} holds no receipt")
    return content


async def _begin(api: Api, path: str, body: JsonObject | None, *, wait: bool) -> JsonObject:
    begun = await api.delete(path, body)
    while wait and begun["state"] != "completed":
        await asyncio.sleep(LOOK_SECONDS)
        begun = await api.get(_path(begun["erasure_id"]))
    return begun


def _show_begun(begun: JsonObject) -> None:
    if begun["receipt"] is None:
        sys.stdout.write(f"{begun['erasure_id']}\n")
    else:
        sys.stdout.write(json.dumps(begun["receipt"], indent=2, ensure_ascii=False) + "\n")


def _path(erasure_id: str) -> str:
    return f"/api/v1/erasures/{quote(erasure_id, safe='')}"
