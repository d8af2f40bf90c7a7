"""Turning texts into vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.output import ReportedUsage, TokenUsage
from meshwright_model_router.domain.ports import Vectors
from meshwright_model_router.domain.requests import Purpose
from meshwright_model_router.domain.tokens import count_text
from meshwright_model_router.domain.unary import UnaryCalls
from meshwright_model_router.domain.usage import Attribution, Operation, settle


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of unit length in the order of the texts, who made them, and what it took."""

    vectors: Sequence[Sequence[float]]
    model: str
    usage: TokenUsage


class Embedder:
    """The use case behind Embed."""

    def __init__(self, access: ModelAccess, calls: UnaryCalls) -> None:
        self._access = access
        self._calls = calls

    async def embed(
        self, model: str, texts: Sequence[str], attribution: Attribution, *, dimensions: int = 0
    ) -> Embedded:
        """Return one vector a text. `dimensions` 0 takes the model's own length.

        Raises: as `ModelAccess.grant` and `UnaryCalls.run`; InvalidArgument for dimensions that
        the model has not.
        """
        grant = await self._access.grant(model, Operation.EMBED)
        tokens = sum(map(count_text, texts))

        def usage_of(vectors: Vectors) -> TokenUsage:
            return settle(
                ReportedUsage(vectors.tokens, 0) if vectors.tokens else None,
                estimate_prompt=lambda: tokens,
                estimate_completion=lambda: 0,
            )

        answered = await self._calls.run(
            grant,
            Purpose.of(Operation.EMBED, attribution),
            tokens,
            lambda route, seconds_left: route.provider.embed(
                route.model, texts, dimensions=dimensions, seconds_left=seconds_left
            ),
            usage_of,
        )
        return Embedded(answered.value.values, answered.route.model, answered.usage)
