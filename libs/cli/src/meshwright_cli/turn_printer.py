"""A turn on the terminal: text as it comes, tools and sources around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TextIO

from meshwright_cli.http_api import ServerEvent
from meshwright_cli.teamwork import PlanLines, child_line

DIM: Final = "\x1b[2m"
PLAIN: Final = "\x1b[0m"
SHOWN_CHARACTERS: Final = 160
ENDS: Final = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "error"})

# What a model or a document says must not steer the terminal: no control characters but these two.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class TurnPrinter:
    """Prints the events of one turn to `output`; `colors` dims what is not the answer."""

    def __init__(self, output: TextIO, *, colors: bool) -> None:
        self._output = output
        self._colors = colors
        self._answer = ""
        self._inside_line = False
        self._citations: list[Mapping[str, Any]] = []
        self._plan = PlanLines()
        self.session_id = ""
        self.turn_id = ""
        self.last_event_id = ""
        self.failure = ""
        self.ended = False

    def show(self, event: ServerEvent) -> None:  # noqa: C901 - one case an event
        """Print one event."""
        self.last_event_id = event.event_id or self.last_event_id
        data = event.data
        match event.name:
            case "turn.started":
                self.turn_id, self.session_id = str(data["turn_id"]), str(data["session_id"])
            case "turn.queued":
                self.turn_id, self.session_id = str(data["turn_id"]), str(data["session_id"])
                self.note(f"waits for other turns of the session: place {data['position']}")
            case "message.delta":
                self._say(str(data["text"]))
            case "tool.call":
                self.note(f"▸ {data['name']} {data['arguments_json']}")
            case "tool.result":
                self.note(f"{'✗' if data['is_error'] else '◂'} {data['result_json']}")
            case "plan":
                for line in self._plan.of(data):
                    self.note(line)
            case "task.child":
                self.note(child_line(data))
            case "citation":
                self._citations.append(data)
            case "turn.restarted":
                self._restart(int(data["keep_characters"]))
        if event.name in ENDS:
            self._end(event)

    def _say(self, text: str) -> None:
        self._answer += text
        self._write(_CONTROL.sub("", text))

    def _restart(self, keep_characters: int) -> None:
        self._answer = self._answer[:keep_characters]
        self.note("the answer was interrupted; it begins anew from here:")
        self._write(_CONTROL.sub("", self._answer))

    def _end(self, event: ServerEvent) -> None:
        self.ended = True
        data = event.data
        self._finish_line()
        match event.name:
            case "turn.completed":
                for citation in self._citations:
                    self.note(source_line(citation))
            case "turn.cancelled":
                self.failure = "the turn was cancelled"
            case "turn.failed":
                self.failure = f"{data['message']} ({data['reason']})"
            case _:
                self.failure = f"{data.get('detail')} ({data.get('code')})"

    def note(self, text: str) -> None:
        """Print a line beside the answer."""
        line = _CONTROL.sub("", text.replace("\n", " "))
        if len(line) > SHOWN_CHARACTERS:
            line = f"{line[:SHOWN_CHARACTERS]}…"
        self._finish_line()
        start, end = (DIM, PLAIN) if self._colors else ("", "")
        self._write(f"{start}{line}{end}\n")

    def _finish_line(self) -> None:
        if self._inside_line:
            self._write("\n")

    def _write(self, text: str) -> None:
        self._inside_line = not text.endswith("\n") if text else self._inside_line
        self._output.write(text)
        self._output.flush()


def source_line(citation: Mapping[str, Any]) -> str:
    """Return a source in one line: number, document, page, headings, the passage's beginning."""
    place = str(citation["document_name"])
    if citation.get("page"):
        place += f", page {citation['page']}"
    headings = " > ".join(citation.get("heading_path") or ())
    quote = " ".join(str(citation["quote"]).split())
    return f"[{citation['number']}] {place}{f', {headings}' if headings else ''}: “{quote}”"
