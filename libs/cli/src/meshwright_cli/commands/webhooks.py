"""`meshwright webhooks`: servers of yours that are told what happens."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import quote

import typer

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.http_api import Api, JsonObject, call_api
from meshwright_cli.moments import duration_of, told
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False, no_args_is_help=True)
PATH: Final = "/api/v1/webhooks"
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
WebhookArgument = Annotated[str, typer.Argument(help="The webhook's id.", show_default=False)]


@app.callback()
def webhooks() -> None:
    """Tell servers of yours what happens: make, test and look after webhooks."""


@app.command()
def create(
    address: Annotated[
        str, typer.Argument(metavar="URL", help="A public https address.", show_default=False)
    ],
    event: Annotated[
        list[str] | None,
        typer.Option(help="Only these kinds, such as task.completed or 'task.*'; repeatable."),
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a webhook; print its id and its secret, which is shown this once."""
    body: JsonObject = {"url": address, "event_types": event or [], "description": description}
    made = call_api(data, url, key, lambda api: api.post(PATH, body))
    if as_json:
        show_json(made)
        return
    sys.stdout.write(f"{made['webhook_id']}  {made['secret']}\n")


@app.command("list")
def list_webhooks(
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List webhooks, newest first."""
    found = call_api(data, url, key, lambda api: api.get(f"{PATH}?page_size=200"))["webhooks"]
    if as_json:
        show_json(found)
        return
    show_table(
        *("webhook", "url", "events", "state"),
        rows=[
            (one["webhook_id"], one["url"], ", ".join(one["event_types"]) or "all", _state(one))
            for one in found
        ],
    )


@app.command()
def enable(
    webhook: WebhookArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Tell a webhook what happens from now on."""
    call_api(data, url, key, lambda api: api.patch(_path(webhook), {"disabled": False}))
    sys.stdout.write("enabled\n")


@app.command()
def disable(
    webhook: WebhookArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Tell a webhook nothing more, and give up what is pending."""
    call_api(data, url, key, lambda api: api.patch(_path(webhook), {"disabled": True}))
    sys.stdout.write("disabled\n")


@app.command()
def rotate(
    webhook: WebhookArgument,
    overlap: Annotated[str, typer.Option(help="How long the old secret signs, too.")] = "24h",
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Give a webhook a new secret, and print it."""
    body: JsonObject = {"overlap_seconds": duration_of(overlap, "--overlap").total_seconds()}
    changed = call_api(data, url, key, lambda api: api.post(f"{_path(webhook)}/secret", body))
    sys.stdout.write(f"{changed['secret']}\n")


@app.command("test")
def send_test(
    webhook: WebhookArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Send a test message, and print the id of its delivery."""
    sent = call_api(data, url, key, lambda api: api.post(f"{_path(webhook)}/test", {}))
    sys.stdout.write(f"{sent['delivery_id']}\n")


@app.command()
def deliveries(
    webhook: WebhookArgument,
    state: Annotated[str, typer.Option(help="Only these: pending, delivered or failed.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List what was sent to a webhook, newest first."""
    path = f"{_path(webhook)}/deliveries?page_size={limit}"
    if state:
        path += f"&state={quote(state)}"
    found = call_api(data, url, key, lambda api: api.get(path))["deliveries"]
    if as_json:
        show_json(found)
        return
    now = datetime.now(UTC)
    show_table(
        *("delivery", "event", "state", "attempts", "status", "next", "error"),
        rows=[
            (
                one["delivery_id"],
                one["event_type"],
                one["state"],
                str(one["attempts"]),
                str(one["last_status"] or ""),
                told(one["next_attempt_time"], now),
                one["last_error"],
            )
            for one in found
        ],
    )


@app.command()
def redeliver(
    delivery: Annotated[str, typer.Argument(help="The delivery's id.", show_default=False)],
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Send a message again, whatever became of it."""
    path = f"/api/v1/webhook-deliveries/{quote(delivery, safe='')}/redeliver"
    call_api(data, url, key, lambda api: api.post(path, {}))
    sys.stdout.write("pending\n")


@app.command()
def delete(
    webhook: WebhookArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Delete a webhook with its deliveries."""

    async def remove(api: Api) -> JsonObject:
        return await api.delete(_path(webhook))

    call_api(data, url, key, remove)
    sys.stdout.write("deleted\n")


def _path(webhook: str) -> str:
    return f"{PATH}/{quote(webhook, safe='')}"


def _state(webhook: JsonObject) -> str:
    if webhook["disabled"]:
        return f"disabled ({webhook['disabled_reason'] or 'by hand'})"
    return "failing" if webhook["failing_since"] else "on"
