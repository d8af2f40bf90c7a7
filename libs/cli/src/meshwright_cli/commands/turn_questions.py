"""What a turn asks its person, in the terminal: shown, asked for, sent."""

from __future__ import annotations

import json
import sys
from typing import Final
from urllib.parse import quote

from rich.prompt import Prompt

from meshwright_cli.commands.events.printing import printable
from meshwright_cli.http_api import Api, ApiError, JsonObject

YES: Final = frozenset({"y", "yes"})
NO: Final = frozenset({"n", "no"})


def question_lines(asked: JsonObject) -> list[str]:
    """Return a question as people read it, without what is done about it."""
    call, schema = asked["tool_call"], asked["answer_schema"]
    lines = [f"? {printable(str(asked['question'] or 'the agent asks you'))}"]
    if call is not None:
        lines.append(f"  {printable(str(call['name']))} {printable(str(call['arguments_json']))}")
    if asked["payload"] is not None:
        lines.append(f"  {printable(json.dumps(asked['payload'], ensure_ascii=False))}")
    if schema is not None and asked["kind"] != "approval":
        lines.append(f"  as {printable(json.dumps(schema, ensure_ascii=False))}")
    return lines


def answer_of(asked: JsonObject, text: str) -> JsonObject:
    """Return what was typed as an answer. Anything but a yes refuses a call, and is the reason."""
    text = text.strip()
    if asked["kind"] == "approval":
        approved = text.lower() in YES
        said_more = not approved and text.lower() not in NO
        return {"approved": approved} | ({"comment": text} if said_more and text else {})
    try:
        content = json.loads(text)
    except ValueError:
        content = text
    return content if isinstance(content, dict) else {"answer": content}


def ask_person(asked: JsonObject) -> JsonObject | None:
    """Ask in the terminal; None when nothing was answered there."""
    sys.stdout.write("\n".join(question_lines(asked)) + "\n")
    prompt = "approve? \\[y/n, or why not]" if asked["kind"] == "approval" else "answer"
    try:
        return answer_of(asked, Prompt.ask(f"[bold]{prompt}[/]"))
    except (EOFError, KeyboardInterrupt):
        sys.stdout.write("\n")
        return None


def how_to_answer(asked: JsonObject) -> str:
    """Return the command that answers a question from elsewhere."""
    choice = "--approve" if asked["kind"] == "approval" else "--answer …"
    return f"meshwright tasks answer {asked['task_id']} {asked['interrupt_id']} {choice}"


async def send_answer(api: Api, asked: JsonObject, answer: JsonObject) -> str:
    """Send an answer; return why it was not taken, or nothing. Raises: Disconnected."""
    path = f"/api/v1/tasks/{quote(str(asked['task_id']), safe='')}/resume"
    try:
        await api.post(path, {"interrupt_id": asked["interrupt_id"], "answer": answer})
    except ApiError as error:
        return str(error)
    return ""
