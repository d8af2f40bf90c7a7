"""GET /v1/models, GET /v1/models/{model} and POST /v1/embeddings."""

import base64
from array import array
from typing import TYPE_CHECKING

import orjson
from fastapi import APIRouter, Response

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright_gateway.errors import model_not_found
from meshwright_gateway.http import openai_wire
from meshwright_gateway.http.schemas import openai as schemas

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub


def openai_router(models: "ModelServiceAsyncStub") -> APIRouter:
    """Return the routes of OpenAI's API that answer in one piece."""
    router = APIRouter(prefix="/v1", tags=["openai"])

    @router.get("/models")
    async def list_openai_models() -> schemas.OpenAiModelList:
        """Models that requests may name."""
        answer = await models.ListModels(model_service_pb2.ListModelsRequest())
        return schemas.OpenAiModelList(data=[_model(model) for model in answer.models])

    @router.get("/models/{model:path}")
    async def get_openai_model(model: str) -> schemas.OpenAiModel:
        """One model."""
        answer = await models.ListModels(model_service_pb2.ListModelsRequest())
        found = next((item for item in answer.models if item.name == model), None)
        if found is None:
            raise model_not_found(model)
        return _model(found)

    @router.post("/embeddings", response_model=schemas.EmbeddingAnswer)
    async def create_embeddings(body: schemas.EmbeddingRequest) -> Response:
        """Turn texts into vectors."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        data: list[dict[str, object]] = []
        tokens = 0
        model = body.model
        for batch in openai_wire.embed_batches(texts):
            answer = await models.Embed(
                model_service_pb2.EmbedRequest(
                    model=body.model,
                    texts=batch,
                    dimensions=body.dimensions or 0,
                    attribution=model_service_pb2.UsageAttribution(feature=openai_wire.FEATURE),
                )
            )
            model = answer.model or model
            tokens += answer.usage.prompt_tokens
            data.extend(
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _vector(embedding, body.encoding_format == "base64"),
                }
                for index, embedding in enumerate(answer.embeddings, start=len(data))
            )
        content = {
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        # Not by the model: a thousand vectors are a million numbers.
        return Response(orjson.dumps(content), media_type="application/json")

    return router


def _model(model: generation_pb2.Model) -> schemas.OpenAiModel:
    return schemas.OpenAiModel(id=model.name, owned_by=model.provider)


def _vector(embedding: generation_pb2.Embedding, as_base64: bool) -> list[float] | str:
    if not as_base64:
        return list(embedding.values)
    return base64.b64encode(array("f", embedding.values).tobytes()).decode("ascii")
