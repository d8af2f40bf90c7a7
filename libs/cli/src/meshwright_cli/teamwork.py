"""Plans and the work of other agents on the terminal, a line for each thing that changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SIGNS: Final = {"pending": "○", "running": "▸", "completed": "✓", "failed": "✗"}


def child_line(data: Mapping[str, Any]) -> str:
    """Return what became of an agent that got work."""
    agent, task_id, state = data["agent"], data["task_id"], data["state"]
    if state == "queued":
        return f"▸ hands work to {agent} ({task_id})"
    sign = "◂" if state == "completed" else "✗"
    return f"{sign} {agent} {state} ({task_id})"


class PlanLines:
    """What of a plan is new since it was told last."""

    def __init__(self) -> None:
        self._shown: dict[int, tuple[str, str]] = {}
        self._note = ""

    def of(self, data: Mapping[str, Any]) -> list[str]:
        """Return the lines of a plan that were not told before, its note first."""
        lines = []
        note = str(data["note"])
        if note and note != self._note:
            lines.append(note)
        self._note = note
        now = {
            number: (str(step["text"]), str(step["state"]))
            for number, step in enumerate(data["steps"], start=1)
        }
        for number, (text, state) in now.items():
            if self._shown.get(number) != (text, state):
                lines.append(f"{_SIGNS.get(state, '·')} {number}. {text}")
        self._shown = now
        return lines
