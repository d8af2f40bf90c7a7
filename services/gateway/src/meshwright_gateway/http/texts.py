"""POST /v1/moderations and POST /v1/rerank."""

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright_gateway.http import openai_wire
from meshwright_gateway.http.directory import EXCHANGE_KEY
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.http.schemas import texts as schemas

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

_FLAGGED_FROM: Final = 0.5
"""Score from which a category is told as found."""


def texts_router(models: "ModelServiceAsyncStub") -> APIRouter:
    """Return the routes that judge and order texts."""
    router = APIRouter(prefix="/v1", tags=["openai"])
    attribution = model_service_pb2.UsageAttribution(feature=openai_wire.FEATURE)

    @router.post("/moderations")
    async def create_moderation(
        request: Request, body: schemas.ModerationRequest
    ) -> schemas.ModerationAnswer:
        """Judge texts by content categories."""
        inputs = [body.input] if isinstance(body.input, str) else body.input
        answer = await models.Moderate(
            model_service_pb2.ModerateRequest(
                model=body.model,
                texts=[one if isinstance(one, str) else one.text for one in inputs],
                attribution=attribution,
            )
        )
        return schemas.ModerationAnswer(
            id=f"modr-{_request_id(request)}",
            model=answer.model,
            results=[_verdict(one) for one in answer.results],
        )

    @router.post("/rerank", response_model_exclude_none=True)
    async def rerank(request: Request, body: schemas.RerankInput) -> schemas.RerankAnswer:
        """Order documents by how well they fit a query."""
        answer = await models.Rerank(
            model_service_pb2.RerankRequest(
                model=body.model,
                query=body.query,
                documents=body.documents,
                top_n=body.top_n or 0,
                attribution=attribution,
            )
        )
        return schemas.RerankAnswer(
            id=f"rerank-{_request_id(request)}",
            model=answer.model,
            results=[
                schemas.RankedResult(
                    index=one.index,
                    relevance_score=one.score,
                    document=(
                        schemas.RankedDocument(text=body.documents[one.index])
                        if body.return_documents
                        else None
                    ),
                )
                for one in answer.results
            ],
            usage=schemas.RerankUsage(total_tokens=answer.usage.prompt_tokens),
        )

    return router


def _request_id(request: Request) -> str:
    exchange: Exchange = request.scope[EXCHANGE_KEY]
    return exchange.request_id


def _verdict(result: generation_pb2.ModerationResult) -> schemas.ModerationVerdict:
    scores = {name: value.number_value for name, value in result.category_scores.fields.items()}
    return schemas.ModerationVerdict(
        flagged=result.flagged,
        categories={name: score >= _FLAGGED_FROM for name, score in scores.items()},
        category_scores=scores,
    )
