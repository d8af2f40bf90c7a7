"""Options that several of these commands share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import typer

from meshwright_cli.commands.events.moments import moment
from meshwright_cli.commands.events.operator import known_id, known_topic

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="For programs.")]
ConsumerOption: TypeAlias = Annotated[
    str, typer.Option(help="Consumer by name; `meshwright events lag` lists them.")
]
TopicOption: TypeAlias = Annotated[
    str, typer.Option(help="Only this topic.", callback=lambda value: value and known_topic(value))
]
TenantOption: TypeAlias = Annotated[
    str, typer.Option(help="Only this tenant.", callback=lambda value: value and known_id(value))
]
KeyOption: TypeAlias = Annotated[str, typer.Option(help="Only this partition key.")]
SinceOption: TypeAlias = Annotated[
    datetime | None,
    typer.Option(metavar="TIME", parser=moment, help="Only from then on: 15m, 2026-11-28T03:00."),
]
ReasonOption: TypeAlias = Annotated[
    str, typer.Option(help="Why; it is kept in the audit log of the tenants.")
]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
