"""Graphs as agents. LangGraph itself is imported when the first task of one begins."""

import asyncio
from importlib import import_module
from typing import Final

from meshwright_orchestrator.domain.ports import Ending
from meshwright_orchestrator.domain.workbench import Workbench
from meshwright_orchestrator.langgraph.registry import GraphRegistry

_MESH: Final = "meshwright_orchestrator.langgraph.mesh"


class GraphEngine:
    """Engine of the installed graphs: see domain/runner.py."""

    def __init__(self, registry: GraphRegistry) -> None:
        self._registry = registry

    async def work(self, bench: Workbench) -> Ending:
        installed = await self._registry.load(bench.task.spec.agent)
        mesh = await asyncio.to_thread(import_module, _MESH)
        ending: Ending = await mesh.run_graph(bench, installed)
        return ending
