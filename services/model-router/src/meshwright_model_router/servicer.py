"""ModelService: protobuf in, domain call, protobuf out."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio

from meshwright.model_router.v1 import model_service_pb2
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceServicer
from meshwright_common.context import principal
from meshwright_common.telemetry import genai, tracing
from meshwright_common.telemetry.spans import Kind
from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.call import Generator
from meshwright_model_router.domain.embedding import Embedder
from meshwright_model_router.domain.moderation import Moderator
from meshwright_model_router.domain.rerank import Reranker
from meshwright_model_router.domain.routing_table import RoutingTables
from meshwright_model_router.domain.tokens import count_prompt
from meshwright_model_router.domain.usage import Operation
from meshwright_model_router.traced_generation import describe_call, traced_generation
from meshwright_model_router.wire import requests, responses, verdicts

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    """Serves ModelService."""

    def __init__(
        self,
        tables: RoutingTables,
        access: ModelAccess,
        generator: Generator,
        embedder: Embedder,
        reranker: Reranker,
        moderator: Moderator,
    ) -> None:
        self._tables = tables
        self._access = access
        self._generator = generator
        self._embedder = embedder
        self._reranker = reranker
        self._moderator = moderator

    async def Generate(
        self,
        request: model_service_pb2.GenerateRequest,
        context: Context,
    ) -> AsyncIterator[model_service_pb2.GenerateResponse]:
        """Stream a generation; leaving it early closes the provider's stream."""
        call = requests.call_from(request)
        outputs = self._generator.generate(call)
        span = tracing.inner(genai.chat_name(request.model), Kind.CLIENT)
        if span.recording and span.sampled:
            outputs = traced_generation(span, call, outputs, self._provider_of)
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    yield responses.generate_response(output)
        except BaseException as error:
            # What is not sampled is kept for its failures alone, so its pieces are not looked at.
            if span.recording and not span.ended:
                describe_call(span, call)
                span.failed_by(error)
            raise
        finally:
            span.end()

    def _provider_of(self, deployment: str) -> str:
        record = self._tables.of(principal().tenant_id).records.get(deployment)
        return "" if record is None else record.deployment.provider

    async def Embed(
        self,
        request: model_service_pb2.EmbedRequest,
        context: Context,
    ) -> model_service_pb2.EmbedResponse:
        """Return one vector a text."""
        embedded = await self._embedder.embed(
            request.model,
            requests.texts_from(request),
            requests.attribution_from(request.attribution),
            dimensions=request.dimensions,
        )
        return responses.embed_response(embedded)

    async def Rerank(
        self,
        request: model_service_pb2.RerankRequest,
        context: Context,
    ) -> model_service_pb2.RerankResponse:
        """Return the documents by how well they fit, best first."""
        reranked = await self._reranker.rerank(
            request.model,
            verdicts.query_from(request),
            verdicts.documents_from(request),
            requests.attribution_from(request.attribution),
            top_n=request.top_n,
        )
        return verdicts.rerank_response(reranked)

    async def Moderate(
        self,
        request: model_service_pb2.ModerateRequest,
        context: Context,
    ) -> model_service_pb2.ModerateResponse:
        """Return one verdict a text."""
        moderated = await self._moderator.moderate(
            request.model,
            verdicts.moderated_from(request),
            requests.attribution_from(request.attribution),
        )
        return verdicts.moderate_response(moderated)

    async def CountTokens(
        self,
        request: model_service_pb2.CountTokensRequest,
        context: Context,
    ) -> model_service_pb2.CountTokensResponse:
        """Count with our own counter, which estimates for every model but the built-in one."""
        table = self._tables.of(principal().tenant_id)
        resolved = table.resolve(request.model, Operation.GENERATE)
        tokens = count_prompt(
            requests.messages_from(request.messages), requests.tools_from(request.tools)
        )
        return model_service_pb2.CountTokensResponse(
            tokens=tokens,
            estimated=any(one.deployment.provider != "offline" for one in resolved.routes),
        )

    async def ListModels(
        self,
        request: model_service_pb2.ListModelsRequest,
        context: Context,
    ) -> model_service_pb2.ListModelsResponse:
        """List what the caller's tenant may name in requests."""
        return model_service_pb2.ListModelsResponse(
            models=[responses.model_message(one) for one in await self._access.allowed()]
        )
