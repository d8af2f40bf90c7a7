"""Models over the model router's stub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.rpc.stream import open_stream
from meshwright_orchestrator.domain.conversation import ToolOffer, ToolUse
from meshwright_orchestrator.domain.errors import AnswerTruncated
from meshwright_orchestrator.domain.journal import ModelAnswered
from meshwright_orchestrator.domain.ports import ModelRequest, Tell, Withdraw
from meshwright_orchestrator.wire import values

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

_TOOL_CHOICES: Final = {
    ToolUse.NONE: generation_pb2.TOOL_CHOICE_NONE,
    ToolUse.AUTO: generation_pb2.TOOL_CHOICE_AUTO,
    ToolUse.REQUIRED: generation_pb2.TOOL_CHOICE_REQUIRED,
}
_FINISH_REASONS: Final = {
    generation_pb2.FINISH_REASON_STOP: "stop",
    generation_pb2.FINISH_REASON_LENGTH: "length",
    generation_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    generation_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}


class ModelClient:
    """Models: see the port."""

    def __init__(self, stub: ModelServiceAsyncStub) -> None:
        self._stub = stub

    async def generate(
        self, request: ModelRequest, tell: Tell, withdraw: Withdraw
    ) -> ModelAnswered:
        texts: list[str] = []
        reasonings: list[str] = []
        finished: generation_pb2.GenerateFinished | None = None
        async with open_stream(self._stub.Generate(_request_message(request))) as responses:
            async for response in responses:
                event = response.event
                kind = event.WhichOneof("event")
                if kind == "delta":
                    text, reasoning = event.delta.text, event.delta.reasoning
                    if text:
                        texts.append(text)
                    if reasoning:
                        reasonings.append(reasoning)
                    if text or reasoning:
                        tell(text, reasoning)
                elif kind == "restarted":
                    texts.clear()
                    reasonings.clear()
                    withdraw()
                elif kind == "finished":
                    finished = event.finished
        if finished is None:
            raise AnswerTruncated
        return ModelAnswered(
            text="".join(texts),
            reasoning="".join(reasonings),
            tool_calls=values.calls_from(finished.tool_calls),
            finish_reason=_FINISH_REASONS.get(finished.finish_reason, "stop"),
            usage=values.usage_from(finished.usage),
        )


def _request_message(request: ModelRequest) -> model_service_pb2.GenerateRequest:
    message = model_service_pb2.GenerateRequest(
        model=request.model,
        messages=map(values.message_message, request.messages),
        attribution=model_service_pb2.UsageAttribution(
            task_id=request.key.task_id,
            step=request.key.step,
            attempt=request.key.attempt,
            session_id=request.key.session_id,
            feature=request.feature,
        ),
        accepts_restart=True,
    )
    if request.tools:
        message.tools.extend(map(_tool_message, request.tools))
        message.tool_choice = _TOOL_CHOICES[request.tool_use]
    return message


def _tool_message(offer: ToolOffer) -> message_pb2.ToolDefinition:
    return message_pb2.ToolDefinition(
        name=offer.name,
        description=offer.description,
        parameters=values.struct_message(offer.parameters),
    )
