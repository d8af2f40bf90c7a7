"""A workflow's run as a tree of text: each step below the deepest one that comes before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from meshwright_cli.commands.events.printing import printable
from meshwright_cli.http_api import JsonObject

MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "pending": ("○", "90"),
    "running": ("●", "34"),
    "waiting": ("◷", "33"),
    "completed": ("✓", "32"),
    "skipped": ("–", "90"),
    "failed": ("✗", "31"),
    "cancelled": ("⊘", "90"),
    "compensated": ("↺", "35"),
}
"""Of each state: its mark, and the colour of a terminal (SGR)."""
_UNKNOWN: Final = ("?", "0")
LONGEST_ERROR: Final = 200


def tree_of(workflow: JsonObject, run: JsonObject, *, colours: bool) -> list[str]:
    """Return the lines that show a run."""
    steps = workflow["definition"]["steps"]
    states = {step["name"]: step for step in run["steps"]}
    parents = _parents(steps)
    width = max(len(step["name"]) for step in steps)
    head = (
        f"{workflow['name']} {workflow['version']} · {run['state']}{_took(run)} · {run['run_id']}"
    )
    lines = [_coloured(head, run["state"], colours)]
    if run["error"]:
        lines.append(f"  {_error(run['error'])}")

    def draw(above: str, indent: str) -> None:
        below = [step for step in steps if parents[step["name"]] == above]
        for index, step in enumerate(below):
            is_last = index == len(below) - 1
            state = states[step["name"]]
            text = _line(step, state, parents[step["name"]], width)
            lines.append(
                f"{indent}{'└─' if is_last else '├─'} {_coloured(text, state['state'], colours)}"
            )
            inner = f"{indent}{'   ' if is_last else '│  '}"
            # Of a run that came to a good end, what an attempt met on the way is no news.
            if state["error"] and (run["state"] != "completed" or state["state"] == "failed"):
                lines.append(f"{inner}   {_error(state['error'])}")
            draw(step["name"], inner)

    draw("", "")
    return lines


def _parents(steps: Sequence[JsonObject]) -> dict[str, str]:
    """Return the step below which each is drawn: of those before it, the deepest."""
    depths: dict[str, int] = {}
    waiting = list(steps)
    parents: dict[str, str] = {}
    while waiting:
        ready = [step for step in waiting if all(one in depths for one in step["after"])] or waiting
        for step in ready:
            before = [one for one in step["after"] if one in depths]
            parent = max(before, key=lambda one: depths[one], default="")
            parents[step["name"]] = parent
            depths[step["name"]] = depths.get(parent, -1) + 1
        waiting = [step for step in waiting if step["name"] not in depths]
    return parents


def _line(step: JsonObject, state: JsonObject, parent: str, width: int) -> str:
    mark, _ = MARKS.get(state["state"], _UNKNOWN)
    more = [_action(step["action"])]
    others = [one for one in step["after"] if one != parent]
    if others:
        more.append(f"{'or' if step['join'] == 'any' else 'and'} after {', '.join(others)}")
    if state["attempt"] > 1:
        more.append(f"attempt {state['attempt']}")
    if state["interrupt_id"]:
        more.append(f"asks: meshwright tasks answer {state['child_ids'][-1]} …")
    return f"{mark} {step['name']:<{width}}  {state['state']}{_took(state)}  {' · '.join(more)}"


def _action(action: JsonObject) -> str:
    if action["agent"]:
        return f"agent {printable(action['agent']['agent'])}"
    if action["tool"]:
        return f"tool {printable(action['tool']['tool'])}"
    if action["subworkflow"]:
        return f"workflow {action['subworkflow']['workflow']}"
    return "approval" if action["approval"] else f"delay {action['delay']}"


def _took(what: JsonObject) -> str:
    begin, end = what.get("start_time") or what.get("create_time"), what["end_time"]
    if not begin or not end or what["state"] == "skipped":
        return ""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
    return f" {seconds:.1f} s"


def _error(error: JsonObject) -> str:
    return f"{printable(error['message'])[:LONGEST_ERROR]} ({error['reason']})"


def _coloured(text: str, state: str, colours: bool) -> str:
    _, colour = MARKS.get(state, _UNKNOWN)
    return f"\x1b[{colour}m{text}\x1b[0m" if colours else text
