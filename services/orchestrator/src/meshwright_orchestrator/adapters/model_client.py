"""Models over the model router's stub."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import ServiceError
from meshwright_common.resilience.failpoints import failpoint
from meshwright_common.rpc.stream import open_stream
from meshwright_orchestrator.domain.agents import AgentSpec
from meshwright_orchestrator.domain.conversation import ToolOffer, ToolUse
from meshwright_orchestrator.domain.errors import AnswerTruncated
from meshwright_orchestrator.domain.journal import ModelAnswered
from meshwright_orchestrator.domain.ports import ModelRequest, Tell, Withdraw
from meshwright_orchestrator.wire import values

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

logger = structlog.get_logger(__name__)

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


_CANNOT_ANSWER: Final = frozenset(
    {
        *("MODEL_NOT_FOUND", "NO_DEPLOYMENT", "CONTEXT_LENGTH_EXCEEDED", "RESOURCE_EXHAUSTED"),
        *("PROVIDER_UNAVAILABLE", "PROVIDER_TRUNCATED", "PROVIDER_TIMEOUT", "PROVIDER_PROTOCOL"),
        *("PROVIDER_CREDENTIALS", "PROVIDER_RATE_LIMIT"),
    }
)
"""Reasons of an error that another model may not have. What the tenant may not do, no model may."""


class ModelClient:
    """Models: see the port."""

    def __init__(self, stub: ModelServiceAsyncStub) -> None:
        self._stub = stub

    async def generate(
        self, request: ModelRequest, tell: Tell, withdraw: Withdraw
    ) -> ModelAnswered:
        told = False

        def telling(text: str, reasoning: str) -> None:
            nonlocal told
            told = True
            tell(text, reasoning)

        for model in request.fallback_models:
            try:
                return await self._generate(request, telling, withdraw)
            except ServiceError as error:
                if error.reason not in _CANNOT_ANSWER:
                    raise
                logger.info(
                    "model_cannot_answer",
                    task_id=request.key.task_id,
                    model=request.model,
                    reason=error.reason,
                    instead=model,
                )
            if told:
                told = False
                withdraw()
            request = replace(request, model=model)
        return await self._generate(request, tell, withdraw)

    async def _generate(
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
        failpoint("model-answered")
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
    if request.agent is not None:
        _set_options(message.options, request.agent)
        message.input_guards.extend(request.agent.input_guards)
        message.output_guards.extend(request.agent.output_guards)
    schema = values.struct_message(request.output_schema)
    if schema is not None:
        message.output_format = generation_pb2.OUTPUT_FORMAT_JSON_SCHEMA
        message.output_schema.CopyFrom(schema)
    return message


def _set_options(options: generation_pb2.GenerationOptions, agent: AgentSpec) -> None:
    if agent.temperature is not None:
        options.temperature = agent.temperature
    if agent.max_output_tokens is not None:
        options.max_output_tokens = agent.max_output_tokens
    if agent.reasoning_effort:
        options.reasoning_effort = agent.reasoning_effort


def _tool_message(offer: ToolOffer) -> message_pb2.ToolDefinition:
    return message_pb2.ToolDefinition(
        name=offer.name,
        description=offer.description,
        parameters=values.struct_message(offer.parameters),
    )
