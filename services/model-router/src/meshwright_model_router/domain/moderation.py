"""Judging texts by categories of content."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.output import ReportedUsage, TokenUsage
from meshwright_model_router.domain.ports_other import Verdict, Verdicts
from meshwright_model_router.domain.requests import Purpose
from meshwright_model_router.domain.tokens import count_text
from meshwright_model_router.domain.unary import UnaryCalls
from meshwright_model_router.domain.usage import Attribution, Operation, settle


@dataclass(frozen=True, slots=True)
class Moderated:
    """One verdict a text, in order, who judged, and what it took."""

    verdicts: Sequence[Verdict]
    model: str
    usage: TokenUsage


class Moderator:
    """The use case behind Moderate."""

    def __init__(self, access: ModelAccess, calls: UnaryCalls) -> None:
        self._access = access
        self._calls = calls

    async def moderate(
        self, model: str, texts: Sequence[str], attribution: Attribution
    ) -> Moderated:
        """Return the verdicts on `texts`.

        Raises: as `ModelAccess.grant` and `UnaryCalls.run`.
        """
        grant = await self._access.grant(model, Operation.MODERATE)
        tokens = sum(map(count_text, texts))

        def usage_of(verdicts: Verdicts) -> TokenUsage:
            return settle(
                ReportedUsage(verdicts.tokens, 0) if verdicts.tokens else None,
                estimate_prompt=lambda: tokens,
                estimate_completion=lambda: 0,
            )

        answered = await self._calls.run(
            grant,
            Purpose.of(Operation.MODERATE, attribution),
            tokens,
            lambda route, seconds_left: route.provider.moderate(
                route.model, texts, seconds_left=seconds_left
            ),
            usage_of,
        )
        return Moderated(answered.value.values, answered.route.model, answered.usage)
