"""Which graphs are installed, by their entry points, without importing any of them."""

import asyncio
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from meshwright_orchestrator.domain.errors import AgentNotFound

logger = structlog.get_logger(__name__)

GROUP: Final = "meshwright.agents"
"""Entry point group of graphs: the name is the agent's, the object is what `GraphEngine` runs."""
_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


class GraphRegistry:
    """The installed graphs. Read once, when first asked for."""

    def __init__(self, group: str = GROUP) -> None:
        self._group = group
        self._found: Mapping[str, EntryPoint] | None = None
        self._loaded: dict[str, object] = {}

    async def descriptions(self) -> Mapping[str, str]:
        """Return what each graph is good for: the summary of the distribution it comes with."""
        return {name: _description(point) for name, point in (await self._points()).items()}

    async def load(self, name: str) -> object:
        """Import and return what the entry point names, once. Raises: AgentNotFound."""
        if name not in self._loaded:
            point = (await self._points()).get(name)
            if point is None:
                raise AgentNotFound(agent=name)
            # In a thread: importing LangGraph takes most of a second.
            self._loaded[name] = await asyncio.to_thread(point.load)
        return self._loaded[name]

    async def _points(self) -> Mapping[str, EntryPoint]:
        if self._found is None:
            self._found = await asyncio.to_thread(self._read)
        return self._found

    def _read(self) -> Mapping[str, EntryPoint]:
        points: dict[str, EntryPoint] = {}
        for point in entry_points(group=self._group):
            if _NAME.fullmatch(point.name):
                points[point.name] = point
            else:
                logger.warning("graph_name_refused", name=point.name)
        return points


def _description(point: EntryPoint) -> str:
    distribution = point.dist
    if distribution is None:
        return "A LangGraph graph."
    return f"A LangGraph graph of {distribution.name} {distribution.version}."
