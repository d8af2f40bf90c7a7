"""The mesh's models as a chat model of LangChain: routed, streamed, journaled and billed."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict

from meshwright_orchestrator.domain.conversation import ToolOffer, ToolUse
from meshwright_orchestrator.langgraph.messages import answer_to_langchain, from_langchain
from meshwright_orchestrator.langgraph.recorder import Recorder


class MeshChatModel(BaseChatModel):
    """Calls models for one task. Which model, and with what fallbacks, the mesh decides.

    Each piece of text reaches the task's readers at once; of a `hidden` model as reasoning, which
    is not part of the answer. Sampling options and stop sequences are not passed on.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    recorder: Recorder
    hidden: bool = False

    @property
    def _llm_type(self) -> str:
        return "meshwright"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer these tools. `tool_choice`: "auto", "any", "none" or the name of one tool."""
        offered = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=offered, tool_choice=tool_choice, **kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(
            generations=[ChatGeneration(message=await self._answer(messages, kwargs))]
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self.recorder.from_thread(self._answer(messages, kwargs))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        message = await self._answer(messages, kwargs)
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content=message.content,
                tool_call_chunks=[
                    {
                        "type": "tool_call_chunk",
                        "index": index,
                        "id": call.id,
                        "name": call.name,
                        "args": call.arguments_json,
                    }
                    for index, call in enumerate(from_langchain(message).tool_calls)
                ],
                usage_metadata=message.usage_metadata,
                response_metadata=message.response_metadata,
            )
        )

    async def _answer(self, messages: list[BaseMessage], options: dict[str, Any]) -> AIMessage:
        offers = tuple(_offer(tool) for tool in options.get("tools") or ())
        offers, tool_use = _chosen(offers, options.get("tool_choice"))
        answer = await self.recorder.generate(
            tuple(from_langchain(message) for message in messages),
            tool_use,
            offers,
            hidden=self.hidden,
        )
        return answer_to_langchain(answer)


def _offer(tool: dict[str, Any]) -> ToolOffer:
    function = tool["function"]
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return ToolOffer(function["name"], function.get("description", ""), parameters)


def _chosen(
    offers: tuple[ToolOffer, ...], choice: str | bool | None
) -> tuple[tuple[ToolOffer, ...], ToolUse]:
    if choice in (None, False, "auto"):
        return offers, ToolUse.AUTO
    if choice == "none":
        return offers, ToolUse.NONE
    if choice in (True, "any", "required"):
        return offers, ToolUse.REQUIRED
    return tuple(offer for offer in offers if offer.name == choice), ToolUse.REQUIRED
