"""The mesh's tools as tools of LangChain: authorised, recorded and limited by tool-exec."""

from typing import Any

from langchain_core.tools import BaseTool, ToolException
from pydantic import ConfigDict

from meshwright_orchestrator.domain.conversation import ToolOffer
from meshwright_orchestrator.langgraph.recorder import Recorder


class MeshTool(BaseTool):
    """One tool that the task's owner may use. An error is a message to the model, as elsewhere."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    recorder: Recorder

    async def _arun(self, **arguments: Any) -> str:
        result = await self.recorder.use_tool(self.name, arguments)
        if result.is_error:
            raise ToolException(result.result_json)
        return result.result_json

    def _run(self, **arguments: Any) -> str:
        return self.recorder.from_thread(self._arun(**arguments))


def mesh_tool(recorder: Recorder, offer: ToolOffer) -> MeshTool:
    """Return the tool on offer as LangChain's."""
    return MeshTool(
        name=offer.name,
        description=offer.description,
        args_schema=dict(offer.parameters),
        handle_tool_error=True,
        recorder=recorder,
    )
