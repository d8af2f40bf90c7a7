"""The bytes of reranking and moderation: documents by shared words, texts by one word."""

import msgspec

from bench.embeddings import embed

FLAGGED_WORD = "forbidden"
"""A text with this word is flagged."""
_DIMENSIONS = 256


class RerankRequest(msgspec.Struct):
    """A request of POST /v1/rerank, the form of Cohere's second version, Jina and vLLM."""

    model: str
    query: str
    documents: list[str]
    top_n: int | None = None


class ModerationRequest(msgspec.Struct):
    """A request of POST /v1/moderations."""

    input: str | list[str]
    model: str = "sim"


def ranking(request: RerankRequest) -> bytes:
    """Return the body of a rerank answer, best first."""
    query = embed(request.query, _DIMENSIONS)
    scored = [
        {"index": index, "relevance_score": sum(map(float.__mul__, query, vector))}
        for index, vector in enumerate(embed(text, _DIMENSIONS) for text in request.documents)
    ]
    scored.sort(key=lambda one: -one["relevance_score"])
    tokens = sum(max(1, len(text) // 4) for text in (request.query, *request.documents))
    results = scored[: request.top_n or len(scored)]
    return msgspec.json.encode(
        {"id": "rerank-sim", "results": results, "usage": {"total_tokens": tokens}}
    )


def texts_of(request: ModerationRequest) -> list[str]:
    """Return the texts to judge."""
    return [request.input] if isinstance(request.input, str) else request.input


def verdicts(request: ModerationRequest) -> bytes:
    """Return the body of a moderation answer, one result a text."""
    found = [FLAGGED_WORD in text.lower().split() for text in texts_of(request)]
    results = [
        {
            "flagged": flagged,
            "categories": {"violence": flagged, "harassment": False},
            "category_scores": {"violence": 0.97 if flagged else 0.01, "harassment": 0.02},
        }
        for flagged in found
    ]
    return msgspec.json.encode({"id": "modr-sim", "model": request.model, "results": results})
