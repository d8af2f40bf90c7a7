"""A run as a picture: its steps in layers, an edge for each `after`, a colour for each state.

Layers are by the longest way from the beginning, and within a layer steps stand near those before
them (the barycentre heuristic of Sugiyama, Tagawa and Toda, 1981). Text and shapes only: the SVG
needs nothing from anywhere, and runs no script.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 210
HEIGHT: Final = 58
GAP_ACROSS: Final = 28
GAP_DOWN: Final = 52
MARGIN: Final = 24
HEADER: Final = 66
LONGEST_NAME: Final = 21
LONGEST_TEXT: Final = 29
"""Characters that fit into a box, of a name in bold and of what stands below it."""

COLOURS: Final[Mapping[str, tuple[str, str]]] = {
    "pending": ("#f3f4f6", "#6b7280"),
    "running": ("#dbeafe", "#1d4ed8"),
    "waiting": ("#fef3c7", "#b45309"),
    "completed": ("#dcfce7", "#15803d"),
    "skipped": ("#ffffff", "#9ca3af"),
    "failed": ("#fee2e2", "#b91c1c"),
    "cancelled": ("#e5e7eb", "#4b5563"),
    "compensated": ("#ede9fe", "#6d28d9"),
}
"""Of each state: the box, and its border and text."""
_UNKNOWN: Final = ("#ffffff", "#111827")


@dataclass(frozen=True, slots=True)
class Node:
    """A step of the picture. `action` says in a few words what it does."""

    name: str
    state: str
    action: str
    after: tuple[str, ...]
    note: str = ""


def svg(title: str, state: str, nodes: Sequence[Node]) -> str:
    """Return the picture as an SVG document."""
    layers = _layers(nodes)
    across = max((len(layer) for layer in layers), default=1)
    shown = [state for state in COLOURS if any(node.state == state for node in nodes)]
    legend, legend_width = _legend(shown)
    width = max(2 * MARGIN + across * WIDTH + (across - 1) * GAP_ACROSS, legend_width, 420)
    height = HEADER + 2 * MARGIN + len(layers) * (HEIGHT + GAP_DOWN) - GAP_DOWN
    places = _places(layers, width)
    by_name = {node.name: node for node in nodes}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="system-ui, sans-serif" role="img">',
        f"<title>{escape(title)}: {escape(state)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#6b7280"/></marker>'
        "</defs>",
        f'<text x="{MARGIN}" y="30" font-size="16" font-weight="600" fill="#111827">'
        f"{escape(title)} – {escape(state)}</text>",
        *legend,
    ]
    parts.extend(
        _edge(places[before], places[node.name])
        for node in nodes
        for before in node.after
        if before in by_name
    )
    parts.extend(_box(node, places[node.name]) for node in nodes)
    parts.append("</svg>\n")
    return "\n".join(parts)


def mermaid(nodes: Sequence[Node]) -> str:
    """Return the picture as text of Mermaid, for pages and documents that draw it."""
    numbers = {node.name: f"s{index}" for index, node in enumerate(nodes)}
    lines = ["flowchart TD"]
    for node in nodes:
        action = escape(node.action)
        lines.append(
            f'    {numbers[node.name]}["{node.name}<br/>{action}<br/>{node.state}"]:::{node.state}'
        )
    for node in nodes:
        lines.extend(
            f"    {numbers[before]} --> {numbers[node.name]}"
            for before in node.after
            if before in numbers
        )
    for state in sorted({node.state for node in nodes}):
        fill, line = COLOURS.get(state, _UNKNOWN)
        lines.append(f"    classDef {state} fill:{fill},stroke:{line},color:{line}")
    return "\n".join(lines) + "\n"


def _layers(nodes: Sequence[Node]) -> list[list[Node]]:
    """Return the steps by their distance from the beginning, each layer in its order."""
    by_name = {node.name: node for node in nodes}
    depth: dict[str, int] = {}
    waiting = list(nodes)
    while waiting:
        ready = [
            node
            for node in waiting
            if all(one in depth or one not in by_name for one in node.after)
        ]
        if not ready:
            # A circle, which no stored workflow has.
            ready = waiting
        for node in ready:
            before = [depth[one] for one in node.after if one in depth]
            depth[node.name] = 1 + max(before, default=-1)
        waiting = [node for node in waiting if node.name not in depth]
    layers: list[list[Node]] = [[] for _ in range(1 + max(depth.values(), default=0))]
    for node in nodes:
        layers[depth[node.name]].append(node)
    centre: dict[str, float] = {}
    for layer in layers:
        layer.sort(key=lambda node: _middle(node, centre))
        for index, node in enumerate(layer):
            centre[node.name] = index - (len(layer) - 1) / 2
    return layers


def _middle(node: Node, centre: Mapping[str, float]) -> float:
    before = [centre[one] for one in node.after if one in centre]
    return sum(before) / len(before) if before else 0.0


def _places(layers: Sequence[Sequence[Node]], width: int) -> dict[str, tuple[float, float]]:
    places: dict[str, tuple[float, float]] = {}
    for number, layer in enumerate(layers):
        taken = len(layer) * WIDTH + (len(layer) - 1) * GAP_ACROSS
        left = (width - taken) / 2
        top = HEADER + MARGIN + number * (HEIGHT + GAP_DOWN)
        for index, node in enumerate(layer):
            places[node.name] = (left + index * (WIDTH + GAP_ACROSS), top)
    return places


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + WIDTH / 2, start[1] + HEIGHT
    x2, y2 = end[0] + WIDTH / 2, end[1] - 2
    middle = (y1 + y2) / 2
    return (
        f'<path d="M{x1:g},{y1:g} C{x1:g},{middle:g} {x2:g},{middle:g} {x2:g},{y2:g}"'
        ' fill="none" stroke="#6b7280" stroke-width="1.5" marker-end="url(#end)"/>'
    )


def _box(node: Node, place: tuple[float, float]) -> str:
    fill, line = COLOURS.get(node.state, _UNKNOWN)
    dash = ' stroke-dasharray="5 4"' if node.state in ("skipped", "pending") else ""
    x, y = place
    whole = f"{node.name}: {node.state}" + (f" – {node.note}" if node.note else "")
    return (
        f'<g><title>{escape(whole)}</title><rect x="{x:g}" y="{y:g}" width="{WIDTH}"'
        f' height="{HEIGHT}" rx="8" fill="{fill}" stroke="{line}" stroke-width="1.5"{dash}/>'
        f'<text x="{x + 12:g}" y="{y + 23:g}" font-size="14" font-weight="600" fill="{line}">'
        f"{_cut(node.name, LONGEST_NAME)}</text>"
        f'<text x="{x + 12:g}" y="{y + 43:g}" font-size="12" fill="{line}">'
        f"{_cut(f'{node.action} · {node.state}', LONGEST_TEXT)}</text></g>"
    )


def _legend(states: Sequence[str]) -> tuple[list[str], int]:
    """Return what the colours mean, and how wide that is."""
    parts: list[str] = []
    x = MARGIN
    for state in states:
        fill, line = COLOURS[state]
        parts.append(
            f'<rect x="{x}" y="44" width="12" height="12" rx="3" fill="{fill}" stroke="{line}"/>'
            f'<text x="{x + 17}" y="55" font-size="12" fill="#374151">{state}</text>'
        )
        x += 34 + 7 * len(state)
    return parts, x + MARGIN


def _cut(text: str, longest: int) -> str:
    return escape(text if len(text) <= longest else f"{text[: longest - 1]}…")
