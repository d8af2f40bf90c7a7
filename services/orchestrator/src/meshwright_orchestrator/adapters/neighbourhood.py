"""What a definition of an agent may name, asked of the services that have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from meshwright.model_router.v1 import guard_service_pb2, model_service_pb2
from meshwright.tool_exec.v1 import tool_service_pb2
from meshwright.types.v1 import message_pb2, page_pb2
from meshwright_common.errors import NotFound, PermissionDenied

if TYPE_CHECKING:
    from meshwright.model_router.v1.guard_service_pb2_grpc import GuardServiceAsyncStub
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceAsyncStub

PAGE: Final = 200
_HELLO: Final = message_pb2.Message(
    role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="Hello")]
)


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

    async def unknown_models(self, names: Sequence[str]) -> Sequence[str]:
        unknown: list[str] = []
        for name in names:
            # Not the list of models: a deployment may serve any name of a pattern.
            asked = model_service_pb2.CountTokensRequest(model=name, messages=[_HELLO])
            try:
                await self._models.CountTokens(asked)
            except NotFound:
                unknown.append(name)
            except PermissionDenied:
                continue
        return unknown

    async def unknown_guards(self, names: Sequence[str]) -> Sequence[str]:
        found = await self._guard_names()
        return [] if found is None else [name for name in names if name not in found]

    async def _guard_names(self) -> frozenset[str] | None:
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
