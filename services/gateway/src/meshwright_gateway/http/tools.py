"""Tools and models."""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from meshwright.model_router.v1 import model_service_pb2
from meshwright.tool_exec.v1 import tool_service_pb2
from meshwright_common.errors import Unavailable
from meshwright_common.rpc.stream import open_stream
from meshwright_gateway.http.paging import API_PREFIX, NamePath, PageSize, PageToken
from meshwright_gateway.http.schemas import work as schemas
from meshwright_gateway.wire import values
from meshwright_gateway.wire.work import model_view, tool_answer, tool_request, tool_view

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from meshwright.tool_exec.v1.tool_service_pb2_grpc import ToolServiceAsyncStub


def tools_router(tools: "ToolServiceAsyncStub") -> APIRouter:
    """Return the routes about tools."""
    router = APIRouter(prefix=f"{API_PREFIX}/tools", tags=["tools"])

    @router.get("")
    async def list_tools(
        page_size: PageSize = None, page_token: PageToken = ""
    ) -> schemas.ToolList:
        """Tools that the caller may use, by name."""
        answer = await tools.ListTools(
            tool_service_pb2.ListToolsRequest(page=values.page_request(page_size, page_token))
        )
        return schemas.ToolList(
            tools=[tool_view(tool) for tool in answer.tools],
            next_page_token=answer.page.next_page_token,
        )

    @router.get("/{name}")
    async def get_tool(name: NamePath) -> schemas.Tool:
        """One tool."""
        answer = await tools.DescribeTool(tool_service_pb2.DescribeToolRequest(name=name))
        return tool_view(answer.tool)

    @router.post("/{name}/execute")
    async def execute_tool(name: NamePath, body: schemas.ToolExecution) -> schemas.ToolAnswer:
        """Call a tool and wait for its end. A tool that fails answers 200 with `is_error`."""
        call_id = ""
        async with open_stream(tools.ExecuteTool(tool_request(name, body))) as responses:
            async for response in responses:
                event = response.event
                if event.HasField("started"):
                    call_id = event.started.call_id
                elif event.HasField("outcome"):
                    return tool_answer(call_id, event.outcome)
        raise Unavailable("the tool ended without an outcome")

    return router


def models_router(models: "ModelServiceAsyncStub") -> APIRouter:
    """Return the route about models."""
    router = APIRouter(prefix=f"{API_PREFIX}/models", tags=["models"])

    @router.get("")
    async def list_models() -> schemas.ModelList:
        """Models that requests may name."""
        answer = await models.ListModels(model_service_pb2.ListModelsRequest())
        return schemas.ModelList(models=[model_view(model) for model in answer.models])

    return router
