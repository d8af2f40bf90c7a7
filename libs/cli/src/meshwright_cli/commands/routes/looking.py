"""Commands that look at deployments, policies, prices, health, and why one is chosen."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import urlencode

import typer

from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.commands.routes.calls import PATH, JsonOption, ModelOption, listed
from meshwright_cli.http_api import call_api
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption


def deployments(
    model: ModelOption = "",
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List where models are called, by name."""
    found = listed(data, url, key, "deployments", "deployments", model=model)
    if as_json:
        show_json(found)
        return
    show_table(
        *("deployment", "model", "provider", "asks for", "owner", "priority", "weight", "state"),
        rows=[
            (
                one["name"],
                one["model"],
                one["provider"],
                one["provider_model"] or one["model"],
                "operator" if one["operator_owned"] else "tenant",
                str(one["priority"]),
                str(one["weight"]),
                "disabled" if one["disabled"] else "enabled",
            )
            for one in found
        ],
    )


def policies(
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List the tenant's policies by name."""
    found = listed(data, url, key, "policies", "policies")
    if as_json:
        show_json(found)
        return
    show_table(
        *("policy", "models", "strategy", "sticky", "fallbacks", "attempts", "hedge"),
        rows=[
            (
                one["name"],
                ",".join(one["models"]) or "all others",
                one["strategy"],
                "yes" if one["sticky_by_session"] else "no",
                ",".join(one["fallback_models"]),
                str(one["max_attempts"]),
                f"{one['hedge_after_seconds']:g} s" if one["hedge_after_seconds"] else "",
            )
            for one in found
        ],
    )


def prices(
    deployment: Annotated[str, typer.Option("--deployment", help="Only of this one.")] = "",
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List prices of a million tokens in US dollars, newest first."""
    found = listed(data, url, key, "prices", "prices", deployment=deployment)
    if as_json:
        show_json(found)
        return
    show_table(
        *("deployment", "from", "input", "cached", "output", "set by"),
        rows=[
            (
                one["deployment"],
                one["effective_time"] or "always",
                _dollars(one["prompt_million_tokens_micro_usd"]),
                _dollars(one["cached_million_tokens_micro_usd"]),
                _dollars(one["completion_million_tokens_micro_usd"]),
                "platform" if one["builtin"] else "tenant",
            )
            for one in found
        ],
    )


def health(
    model: ModelOption = "",
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """List how deployments did in the last minute."""
    found = listed(data, url, key, "health", "deployments", model=model)
    if as_json:
        show_json(found)
        return
    show_table(
        *("deployment", "breaker", "running", "calls", "failed", "first token", "p99", "last"),
        rows=[
            (
                one["deployment"],
                one["breaker_state"],
                str(one["requests_in_flight"]),
                str(one["recent_requests"]),
                f"{one['error_rate']:.1%}",
                _seconds(one["first_token_p50_seconds"]),
                _seconds(one["first_token_p99_seconds"]),
                one["last_failure_reason"],
            )
            for one in found
        ],
    )


def explain(  # noqa: PLR0913, PLR0917 - one argument for each option
    model: Annotated[str, typer.Argument(help="The model. Default: the default one.")] = "",
    session: Annotated[str, typer.Option("--session", help="Session of the call.")] = "",
    prompt_tokens: Annotated[
        int, typer.Option("--tokens", min=0, help="Input tokens of the call.")
    ] = 0,
    capability: Annotated[
        list[str] | None, typer.Option("--capability", help="What the call needs; repeatable.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Say which deployment a call would get now, and why not the others."""
    wanted: list[tuple[str, str | int]] = [("prompt_tokens", prompt_tokens)]
    wanted += [("model", model)] if model else []
    wanted += [("session_id", session)] if session else []
    wanted += [("capabilities", one) for one in capability or []]
    path = f"{PATH}/explain?{urlencode(wanted)}"
    answer = call_api(data, url, key, lambda api: api.get(path))
    if as_json:
        show_json(answer)
        return
    policy = answer["policy"] or "the operator's"
    sys.stdout.write(f"{answer['deployment'] or 'none can take the call'} (policy: {policy})\n")
    show_table(
        *("deployment", "may take it", "why not", "score"),
        rows=[
            (
                one["deployment"],
                "yes" if one["eligible"] else "no",
                one["exclusion"],
                f"{one['score']:g}" if one["eligible"] else "",
            )
            for one in answer["candidates"]
        ],
    )


def _dollars(micro: int) -> str:
    return f"{micro / 1_000_000:g}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"
