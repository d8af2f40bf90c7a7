"""Commands that change the tenant's deployments, policies and prices."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Final

import typer

from meshwright_cli.commands.routes.calls import PATH, NameArgument, path_of
from meshwright_cli.exits import refused
from meshwright_cli.http_api import JsonObject, call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

MICRO: Final = 1_000_000
PolicyArgument = Annotated[str, typer.Argument(help="The policy's name.", show_default=False)]


def add_deployment(  # noqa: PLR0913, PLR0917 - one argument for each option
    name: NameArgument,
    model: Annotated[str, typer.Option(help="What clients ask for.", show_default=False)],
    provider: Annotated[str, typer.Option(help="openai, azure or anthropic.")] = "openai",
    provider_model: Annotated[
        str, typer.Option(help="What the provider is asked for. Default: the model.")
    ] = "",
    base_url: Annotated[str, typer.Option(help="Default: the provider's own.")] = "",
    credential: Annotated[str, typer.Option(help="Name of a credential of the operator.")] = "",
    priority: Annotated[int, typer.Option(min=1, max=100, help="Lower is tried first.")] = 50,
    weight: Annotated[int, typer.Option(min=1, max=1000, help="Share of calls.")] = 100,
    context_window: Annotated[int, typer.Option(min=0, help="Tokens that fit. 0: unknown.")] = 0,
    capability: Annotated[
        list[str] | None, typer.Option(help="What it is for and can; repeatable.")
    ] = None,
    dimensions: Annotated[int, typer.Option(min=0, help="Length of its vectors.")] = 0,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Create a deployment, and print its name."""
    body: JsonObject = {
        "name": name,
        "model": model,
        "provider": provider,
        "provider_model": provider_model,
        "base_url": base_url,
        "credential_name": credential,
        "priority": priority,
        "weight": weight,
        "context_window": context_window,
        "capabilities": capability or [],
        "embedding_dimensions": dimensions,
    }
    made = call_api(data, url, key, lambda api: api.post(f"{PATH}/deployments", body))
    sys.stdout.write(f"{made['name']}\n")


def disable_deployment(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Give a deployment no more calls; those that run go on."""
    _set_disabled(data, url, key, name, disabled=True)


def enable_deployment(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Give a deployment calls again."""
    _set_disabled(data, url, key, name, disabled=False)


def remove_deployment(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Remove a deployment; its prices stay for reports."""
    call_api(data, url, key, lambda api: api.delete(path_of("deployments", name)))


def set_policy(  # noqa: PLR0913, PLR0917 - one argument for each option
    name: PolicyArgument,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model it rules; repeatable. Default: all that no other names."),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="priority, weighted, least_busy, lowest_latency or lowest_cost.")
    ] = "priority",
    fallback: Annotated[
        list[str] | None, typer.Option(help="A model to try instead; repeatable, in order.")
    ] = None,
    sticky: Annotated[bool, typer.Option("--sticky", help="Keep a session where it is.")] = False,
    attempts: Annotated[int, typer.Option(min=1, max=5, help="Tries for one call.")] = 3,
    hedge: Annotated[
        float | None, typer.Option(min=0.1, max=30, help="Ask a second one after so long.")
    ] = None,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Create a policy, or replace the one of this name."""
    body: JsonObject = {
        "models": model or [],
        "strategy": strategy,
        "fallback_models": fallback or [],
        "sticky_by_session": sticky,
        "max_attempts": attempts,
        "hedge_after_seconds": hedge,
    }
    call_api(data, url, key, lambda api: api.put(path_of("policies", name), body))


def remove_policy(
    name: PolicyArgument,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Remove a policy: the operator's configuration rules its models again."""
    call_api(data, url, key, lambda api: api.delete(path_of("policies", name)))


def set_price(  # noqa: PLR0913, PLR0917 - one argument for each option
    name: NameArgument,
    input_usd: Annotated[str, typer.Option("--input", help="USD a million input tokens.")] = "0",
    output_usd: Annotated[str, typer.Option("--output", help="USD a million output tokens.")] = "0",
    cached_usd: Annotated[
        str, typer.Option("--cached", help="USD a million cached tokens. Default: as input.")
    ] = "",
    since: Annotated[
        str, typer.Option("--from", help="A moment, 2027-01-01T00:00:00Z. Default: now.")
    ] = "",
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Say what a deployment costs from some time on."""
    body: JsonObject = {
        "deployment": name,
        "prompt_million_tokens_micro_usd": _micro(input_usd),
        "cached_million_tokens_micro_usd": _micro(cached_usd or input_usd),
        "completion_million_tokens_micro_usd": _micro(output_usd),
        "effective_time": since or None,
    }
    call_api(data, url, key, lambda api: api.post(f"{PATH}/prices", body))


def _set_disabled(data: Path, url: str, key: str, name: str, *, disabled: bool) -> None:
    body: JsonObject = {"disabled": disabled}
    call_api(data, url, key, lambda api: api.patch(path_of("deployments", name), body))


def _micro(dollars: str) -> int:
    """Return dollars as millionths. Raises: CommandError."""
    try:
        micro = Decimal(dollars) * MICRO
    except InvalidOperation:
        raise refused(f"{dollars!r} is no amount of dollars") from None
    if not micro.is_finite() or micro < 0 or micro != micro.to_integral_value():
        raise refused(f"{dollars!r} must be 0 or more, with at most six digits after the point")
    return int(micro)
