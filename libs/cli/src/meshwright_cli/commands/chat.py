"""`meshwright chat`: ask in the terminal."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.prompt import Prompt

from meshwright_cli.commands.turn_questions import (
    ask_person,
    how_to_answer,
    question_lines,
    send_answer,
)
from meshwright_cli.endpoint import find_endpoint
from meshwright_cli.exits import CommandError
from meshwright_cli.http_api import Api, Disconnected, JsonObject
from meshwright_cli.options import DEFAULT_DATA, DataOption, KeyOption, UrlOption
from meshwright_cli.turn_printer import TurnPrinter

app = typer.Typer(add_completion=False)
RESUMES = 5
"""How often a broken stream is taken up again without a new event."""
RESUME_PAUSE_SECONDS = 1.0


class Concurrency(StrEnum):
    """What to do when a turn of the session has not ended."""

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


@app.command()
def chat(  # noqa: PLR0913, PLR0917 - arguments and options of a command
    message: Annotated[
        str, typer.Argument(help="The question. Without one, questions are asked for.")
    ] = "",
    session: Annotated[str, typer.Option(help="Go on in this session.")] = "",
    agent: Annotated[str, typer.Option(help="Who answers: rag, chat, tool_call, …")] = "",
    model: Annotated[str, typer.Option(help="Model to use instead of the agent's.")] = "",
    concurrency: Annotated[
        Concurrency, typer.Option(help="What if a turn of the session has not ended.")
    ] = Concurrency.REJECT,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """Ask a question and watch the answer come, with its tools and sources.

    What the agent asks is asked here. Ctrl-C leaves; the turn goes on and its answer is kept in the
    session.
    """
    endpoint = find_endpoint(data, url, key)
    options = {"agent": agent, "model": model}
    ask: JsonObject = {name: value for name, value in options.items() if value}
    ask["concurrency"] = concurrency.value

    async def run(text: str, session_id: str) -> TurnPrinter:
        async with Api(endpoint) as api:
            body = {**ask, "message": text}
            if session_id:
                body["session_id"] = session_id
            return await _follow(api, body)

    if message:
        printer = asyncio.run(run(message, session))
        if printer.failure:
            raise CommandError(printer.failure)
        sys.stderr.write(f"session {printer.session_id}\n")
        return
    while text := _ask():
        printer = asyncio.run(run(text, session))
        session = printer.session_id
        if printer.failure:
            sys.stderr.write(f"error: {printer.failure}\n")
    if session:
        sys.stderr.write(f"session {session}\n")


def _ask() -> str:
    """Return the next question; empty at the end of the input."""
    try:
        while True:
            text: str = Prompt.ask("[bold]you[/]").strip()
            if text:
                return text
    except (EOFError, KeyboardInterrupt):
        sys.stdout.write("\n")
        return ""


async def _ask_about(api: Api, printer: TurnPrinter, question: JsonObject) -> None:
    """Ask the person at the terminal, if there is one, else say how to answer from elsewhere."""
    answer = await asyncio.to_thread(ask_person, question) if sys.stdin.isatty() else None
    if answer is None:
        for line in (*question_lines(question), f"  {how_to_answer(question)}"):
            printer.note(line)
    elif refusal := await send_answer(api, question, answer):
        printer.note(f"not taken: {refusal}")


async def _follow(api: Api, body: JsonObject) -> TurnPrinter:
    """Print a turn to its end, over as many connections as it takes."""
    printer = TurnPrinter(sys.stdout, colors=sys.stdout.isatty())
    failures = 0
    asked: set[str] = set()
    events = api.events("POST", "/api/v1/chat", body=body)
    while True:
        seen = printer.last_event_id
        try:
            async for event in events:
                printer.show(event)
                if printer.ended:
                    return printer
                if event.name == "interrupt" and event.data["interrupt_id"] not in asked:
                    asked.add(event.data["interrupt_id"])
                    await _ask_about(api, printer, event.data)
            broken = Disconnected("the stream ended before the turn")
        except Disconnected as error:
            broken = error
        failures = 1 if printer.last_event_id != seen else failures + 1
        if not printer.turn_id or failures > RESUMES:
            raise broken
        await asyncio.sleep(RESUME_PAUSE_SECONDS)
        path = f"/api/v1/turns/{printer.turn_id}/events"
        events = api.events("GET", path, last_event_id=printer.last_event_id)
