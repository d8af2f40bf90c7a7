"""Domain values as answers."""

from typing import Final

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import message_pb2, usage_pb2
from meshwright_model_router.domain.embedding import Embedded
from meshwright_model_router.domain.output import (
    CacheStatus,
    Finding,
    Finished,
    FinishReason,
    GenerationOutput,
    Piece,
    Restarted,
    TokenUsage,
)
from meshwright_model_router.domain.routing_table import Offer
from meshwright_model_router.domain.usage import Operation

_FINISH_REASONS: Final = {
    FinishReason.STOP: generation_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: generation_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: generation_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: generation_pb2.FINISH_REASON_CONTENT_FILTER,
}
_CACHE_STATUSES: Final = {
    CacheStatus.NONE: generation_pb2.CACHE_STATUS_UNSPECIFIED,
    CacheStatus.MISS: generation_pb2.CACHE_STATUS_MISS,
    CacheStatus.HIT: generation_pb2.CACHE_STATUS_HIT,
    CacheStatus.SEMANTIC_HIT: generation_pb2.CACHE_STATUS_SEMANTIC_HIT,
    CacheStatus.BYPASS: generation_pb2.CACHE_STATUS_BYPASS,
}


def generate_response(output: GenerationOutput) -> model_service_pb2.GenerateResponse:
    """Return one event of a generation."""
    if isinstance(output, Piece):
        return _delta(output)
    if isinstance(output, Finished):
        return model_service_pb2.GenerateResponse(
            event=generation_pb2.GenerateEvent(
                finished=generation_pb2.GenerateFinished(
                    finish_reason=_FINISH_REASONS[output.finish_reason],
                    usage=usage_message(output.usage),
                    tool_calls=[
                        message_pb2.ToolCall(
                            id=call.id, name=call.name, arguments_json=call.arguments_json
                        )
                        for call in output.tool_calls
                    ],
                    findings=[finding_message(one) for one in output.findings],
                )
            )
        )
    if isinstance(output, Restarted):
        return model_service_pb2.GenerateResponse(
            event=generation_pb2.GenerateEvent(
                restarted=generation_pb2.GenerateRestarted(
                    reason=output.reason, model=output.model, deployment=output.deployment
                )
            )
        )
    started = generation_pb2.GenerateStarted(
        model=output.model,
        deployment=output.deployment,
        cache_status=_CACHE_STATUSES[output.cache_status],
    )
    if output.cache_age_seconds is not None:
        started.cache_age.FromMilliseconds(round(output.cache_age_seconds * 1000))
    return model_service_pb2.GenerateResponse(event=generation_pb2.GenerateEvent(started=started))


def finding_message(finding: Finding) -> generation_pb2.GuardFinding:
    """Return what a guard found, as the wire shows it."""
    return generation_pb2.GuardFinding(
        guard=finding.guard,
        category=finding.category,
        side=finding.side,
        action=finding.action,
        count=finding.count,
    )


def _delta(piece: Piece) -> model_service_pb2.GenerateResponse:
    # The path of every token: fields are set in place, which is half the cost of nesting.
    response = model_service_pb2.GenerateResponse()
    delta = response.event.delta
    if piece.text:
        delta.text = piece.text
    if piece.reasoning:
        delta.reasoning = piece.reasoning
    for part in piece.tool_calls:
        delta.tool_calls.add(
            index=part.index, id=part.id, name=part.name, arguments_json=part.arguments
        )
    return response


def usage_message(usage: TokenUsage) -> usage_pb2.TokenUsage:
    """Return the counts as the wire shows them."""
    return usage_pb2.TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_micro_usd=usage.cost_micro_usd,
        estimated=usage.estimated,
    )


def embed_response(embedded: Embedded) -> model_service_pb2.EmbedResponse:
    """Return the vectors in the order of the texts."""
    return model_service_pb2.EmbedResponse(
        embeddings=[generation_pb2.Embedding(values=vector) for vector in embedded.vectors],
        model=embedded.model,
        usage=usage_message(embedded.usage),
    )


def model_message(offer: Offer) -> generation_pb2.Model:
    """Return a model as clients see it: what some deployment of it can."""
    deployments = offer.deployments
    operations = offer.operations
    return generation_pb2.Model(
        name=offer.model,
        provider=deployments[0].provider,
        context_window=max(one.context_window for one in deployments),
        generates=Operation.GENERATE in operations,
        embeds=Operation.EMBED in operations,
        reranks=Operation.RERANK in operations,
        moderates=Operation.MODERATE in operations,
        embedding_dimensions=max(one.embedding_dimensions for one in deployments),
        capabilities=dict.fromkeys(able for one in deployments for able in one.abilities),
    )
