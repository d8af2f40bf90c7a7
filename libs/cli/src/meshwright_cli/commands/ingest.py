"""`meshwright ingest`: make files searchable."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from meshwright_cli.endpoint import Endpoint, find_endpoint
from meshwright_cli.exits import Exit, refused
from meshwright_cli.http_api import Api, Disconnected
from meshwright_cli.ingestion import Ingestion, Progress, files_of, first_disconnection
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption

app = typer.Typer(add_completion=False)


@app.command()
def ingest(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, and folders of files.")
    ],
    knowledge_base: Annotated[
        str, typer.Option(help="Knowledge base to put them in, by id.")
    ] = "default",
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Upload files and wait until they can be searched: PDF, DOCX, HTML, Markdown, CSV, text.

    Exits with 1 when a file was refused or could not be indexed; the others are there.
    """
    endpoint = find_endpoint(data, url, key)
    files, left_out = files_of(paths)
    if not files:
        raise refused("there is no file of a known type")
    ingestion = asyncio.run(_run(endpoint, knowledge_base, files))
    done = ingestion.progress
    typer.echo(
        f"{done.indexed} of {done.files} files can be searched, {done.passages} passages"
        + (f", {done.duplicates} were there already" if done.duplicates else "")
        + (f"; {left_out} of other types left out" if left_out else "")
    )
    for failure in ingestion.failures:
        sys.stderr.write(f"error: {failure.file}: {failure.reason}\n")
    raise typer.Exit(Exit.FAILED if ingestion.failures else Exit.OK)


async def _run(endpoint: Endpoint, knowledge_base: str, files: list[Path]) -> Ingestion:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with ProgressBar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("uploading", total=len(files))

        def show(progress: Progress) -> None:
            described = f"{progress.uploaded} uploaded, {progress.indexed} searchable" + (
                f", {progress.failed} failed" if progress.failed else ""
            )
            bar.update(task, completed=progress.done, description=described)

        async with Api(endpoint) as api:
            ingestion = Ingestion(api, knowledge_base, files, show)
            try:
                await ingestion.run()
            except* Disconnected as errors:
                raise first_disconnection(errors) from None
    return ingestion
