"""What a definition of an agent may name, asked of the services that have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from meshwright.model_router.v1 import guard_service_pb2, model_service_pb2
from meshwright.tool_exec.v1 import tool_service_pb2
from meshwright.types.v1 import page_pb2
from meshwright_common.errors import NotFound, PermissionDenied

if TYPE_CHECKING:
    from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceAsyncStub
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceAsyncStub

PAGE: Final = 200


class MeshNeighbourhood:
    """Neighbourhood: see the port. It asks under the caller's rights: what the caller may not list
    is not checked, and a task that needs it fails with its own error.
    """

    def __init__(
        self,
        tools: ToolServiceAsyncStub,
        models: ModelServiceAsyncStub,
        guards: GuardServiceAsyncStub,
    ) -> None:
        self._tools = tools
        self._models = models
        self._guards = guards

    async def unknown_tools(self, names: Sequence[str]) -> Sequence[str]:
        unknown: list[str] = []
        for name in names:
            try:
                await self._tools.DescribeTool(tool_service_pb2.DescribeToolRequest(name=name))
            except NotFound:
                unknown.append(name)
            except PermissionDenied:
                continue
        return unknown

    async def models(self) -> frozenset[str] | None:
        try:
            answer = await self._models.ListModels(model_service_pb2.ListModelsRequest())
        except PermissionDenied:
            return None
        return frozenset(model.name for model in answer.models if model.generates)

    async def guards(self) -> frozenset[str] | None:
        found: set[str] = set()
        token = ""
        while True:
            page = page_pb2.PageRequest(page_size=PAGE, page_token=token)
            try:
                answer = await self._guards.ListGuards(
                    guard_service_pb2.ListGuardsRequest(page=page)
                )
            except PermissionDenied:
                return None
            found.update(guard.name for guard in answer.guards)
            token = answer.page.next_page_token
            if not token:
                return frozenset(found)
