"""Limits on the command line: a number, `unlimited`, or `plan` for what the plan says."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from meshwright.session.v1 import tenant_pb2

UNLIMITED: Final = "unlimited"
OF_PLAN: Final = "plan"
ALL_MODELS: Final = "all"
LARGEST: Final = (1 << 63) - 1
LARGEST_TURNS: Final = (1 << 31) - 1
METAVAR: Final = f"NUMBER|{UNLIMITED}|{OF_PLAN}"


def _limit(value: str) -> str:
    """Return a limit that can be used. Raises: BadParameter naming what is wrong."""
    if value in (UNLIMITED, OF_PLAN):
        return value
    if not (value.isascii() and value.isdigit()) or not 1 <= int(value) <= LARGEST:
        raise typer.BadParameter(
            f"{value!r} is no limit: write a number from 1 to {LARGEST}, {UNLIMITED}, or {OF_PLAN}"
            " for what the plan says"
        )
    return value


def _turns(value: str) -> str:
    if _limit(value).isdigit() and int(value) > LARGEST_TURNS:
        raise typer.BadParameter(f"{value!r} is too large: at most {LARGEST_TURNS}")
    return value


def option(help_text: str, *, turns: bool = False) -> typer.models.OptionInfo:
    """Return the option of one limit."""
    check = _turns if turns else _limit
    found: typer.models.OptionInfo = typer.Option(
        metavar=METAVAR, help=help_text, callback=lambda value: value and check(value)
    )
    return found


SessionsOption: TypeAlias = Annotated[str, option("Sessions that may exist.")]
TokensOption: TypeAlias = Annotated[str, option("Tokens a day (UTC).")]
CostOption: TypeAlias = Annotated[
    str, option("Price of model calls a day (UTC), in millionths of a US dollar.")
]
DocumentsOption: TypeAlias = Annotated[str, option("Documents that may exist.")]
StorageOption: TypeAlias = Annotated[str, option("Bytes of documents.")]
TurnsOption: TypeAlias = Annotated[str, option("Turns at the same time.", turns=True)]
ModelsOption: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar=f"NAMES|{ALL_MODELS}|{OF_PLAN}",
        help="Models that may be used: names with commas, * for any characters.",
    ),
]


def agreed(limits: dict[str, str], models: str) -> tuple[tenant_pb2.AgreedQuota, list[str]]:
    """Return agreed limits and the paths of those that are named; "" names none."""
    quota, paths = tenant_pb2.AgreedQuota(), []
    for name, value in limits.items():
        if not value:
            continue
        paths.append(f"agreed_quota.{name}")
        if value != OF_PLAN:
            setattr(quota, name, 0 if value == UNLIMITED else int(value))
    if models:
        paths.append("agreed_quota.allowed_models")
        if models != OF_PLAN:
            quota.allowed_models.SetInParent()
            names = [] if models == ALL_MODELS else models.split(",")
            quota.allowed_models.names.extend(name.strip() for name in names)
    return quota, paths


def mask(paths: list[str]) -> FieldMask:
    """Return the mask of paths."""
    return FieldMask(paths=paths)
