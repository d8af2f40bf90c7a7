"""Requests and answers of Rerank and Moderate."""

from collections.abc import Iterable
from typing import Final

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright_common.errors import invalid
from meshwright_model_router.domain.moderation import Moderated
from meshwright_model_router.domain.rerank import Reranked
from meshwright_model_router.wire.responses import usage_message

MAX_QUERY_BYTES: Final = 8 * 1024
MAX_DOCUMENTS: Final = 256
MAX_MODERATED_TEXTS: Final = 32
MAX_TEXT_BYTES: Final = 32 * 1024


def query_from(request: model_service_pb2.RerankRequest) -> str:
    """Return the query. Raises: InvalidArgument naming the field."""
    _check_text("query", request.query, MAX_QUERY_BYTES)
    if request.top_n < 0:
        raise invalid("top_n", "must be 0 or more")
    return request.query


def documents_from(request: model_service_pb2.RerankRequest) -> tuple[str, ...]:
    """Return the documents. Raises: InvalidArgument naming the field."""
    return _texts("documents", request.documents, MAX_DOCUMENTS)


def moderated_from(request: model_service_pb2.ModerateRequest) -> tuple[str, ...]:
    """Return the texts to judge. Raises: InvalidArgument naming the field."""
    return _texts("texts", request.texts, MAX_MODERATED_TEXTS)


def rerank_response(reranked: Reranked) -> model_service_pb2.RerankResponse:
    """Return the ranking, best first."""
    return model_service_pb2.RerankResponse(
        results=[
            generation_pb2.RerankResult(index=one.index, score=one.score)
            for one in reranked.results
        ],
        model=reranked.model,
        usage=usage_message(reranked.usage),
    )


def moderate_response(moderated: Moderated) -> model_service_pb2.ModerateResponse:
    """Return the verdicts in the order of the texts."""
    response = model_service_pb2.ModerateResponse(model=moderated.model)
    for verdict in moderated.verdicts:
        result = response.results.add(flagged=verdict.flagged)
        result.category_scores.update(dict(verdict.scores))
    return response


def _texts(field: str, texts: Iterable[str], most: int) -> tuple[str, ...]:
    found = tuple(texts)
    if not 1 <= len(found) <= most:
        raise invalid(field, f"must be 1 to {most}")
    for index, text in enumerate(found):
        _check_text(f"{field}[{index}]", text, MAX_TEXT_BYTES)
    return found


def _check_text(field: str, text: str, most: int) -> None:
    if not text or len(text.encode()) > most:
        raise invalid(field, f"must be 1 character to {most} bytes of text")
