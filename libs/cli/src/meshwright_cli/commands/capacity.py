"""`meshwright capacity`: how many machines, partitions and bytes a load needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from meshwright_cli.capacity import Demand, plan
from meshwright_cli.commands.events.printing import show_json, show_table
from meshwright_cli.exits import refused

app = typer.Typer(add_completion=False)


@app.command()
def capacity(  # noqa: PLR0913, PLR0917 - one argument for each option
    requests: Annotated[
        float,
        typer.Option("--requests-per-second", help="Under /v1, at the peak; no conversation kept."),
    ] = 0.0,
    turns: Annotated[
        float, typer.Option("--turns-per-second", help="Questions in sessions, at the peak.")
    ] = 0.0,
    tasks: Annotated[
        float, typer.Option("--tasks-per-second", help="Submitted tasks, at the peak.")
    ] = 0.0,
    tokens: Annotated[
        float, typer.Option("--tokens", help="Streamed in each answer, on average.")
    ] = 200.0,
    passages: Annotated[int, typer.Option("--passages", help="In all knowledge bases.")] = 0,
    keep_days: Annotated[
        int, typer.Option("--keep-days", min=1, help="How long sessions and tasks are kept.")
    ] = 365,
    busy_hours: Annotated[
        float,
        typer.Option("--busy-hours", min=0, max=24, help="A day's work, as hours at the peak."),
    ] = 8.0,
    headroom: Annotated[
        float, typer.Option("--headroom", help="Share of the machines that stays free at the peak.")
    ] = 0.5,
    cores: Annotated[int, typer.Option("--cores", help="Cores of a node.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Reckon cores, nodes, memory, partitions and storage from what was measured.

    Each line says which measurement it rests on. docs/capacity.md has the model, and what it does
    not know: measure with your own agents before you buy.
    """
    try:
        demand = Demand(
            requests_per_second=requests,
            turns_per_second=turns,
            tasks_per_second=tasks,
            tokens_per_answer=tokens,
            passages=passages,
            keep_days=keep_days,
            busy_hours=busy_hours,
            headroom=headroom,
            cores_per_node=cores,
        )
    except ValueError as error:
        raise refused(str(error)) from None
    lines = plan(demand)
    if as_json:
        show_json([asdict(one) for one in lines])
        return
    rows: list[tuple[str, ...]] = [
        (one.what, f"{one.amount:,.1f}", one.unit, one.because) for one in lines
    ]
    show_table("what", "amount", "unit", "because", rows=rows)
