"""`meshwright doctor`: look at everything that the platform needs, and say what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer
from rich.console import Console

from meshwright_cli.broker_checks import check_brokers
from meshwright_cli.checks import (
    Finding,
    all_good,
    check_engines,
    check_machine,
    check_model,
    check_objects,
    check_platform,
    check_settings,
)
from meshwright_cli.endpoint import read_endpoint
from meshwright_cli.engines.data_folder import owner_of
from meshwright_cli.exits import Exit
from meshwright_cli.key_checks import check_keys
from meshwright_cli.mesh_checks import check_mesh
from meshwright_cli.options import DEFAULT_DATA, DataOption
from meshwright_common.telemetry import logging

app = typer.Typer(add_completion=False)


@app.command()
def doctor(data: DataOption = DEFAULT_DATA) -> None:
    """Check machine, settings, engines, services and models; say what to do if one is bad.

    Exits with 0 when all is well, 1 otherwise.
    """
    # What the checks find is said by them; what our adapters log beside it would be said twice.
    logging.configure("doctor", level="error")
    findings = check_machine(data) + check_settings()
    findings += asyncio.run(check_objects()) + asyncio.run(check_brokers())
    findings += asyncio.run(check_mesh()) + asyncio.run(check_keys(data))
    findings += asyncio.run(_check_running(data))
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark = "[green]ok [/]" if finding.good else "[red]bad[/]"
        console.print(f"{mark} {finding.subject}: ", end="")
        console.print(finding.text, markup=False)
        if finding.advice:
            console.print(f"    → {finding.advice}", markup=False)
    raise typer.Exit(Exit.OK if all_good(findings) else Exit.FAILED)


async def _check_running(data: Path) -> list[Finding]:
    pid = owner_of(data)
    if pid is None:
        running = [Finding("platform", f"does not run on {data}: start it with `meshwright up`")]
        return running + await check_engines() + await check_model()
    endpoint = read_endpoint(data)
    if endpoint is None:
        return [
            Finding(
                "platform",
                f"process {pid} is not ready yet, or stopping",
                "wait a moment and ask again",
            )
        ]
    return await check_platform(endpoint) + await check_model()
