"""Why a call would go where it goes, by the very choice that calls are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshwright_model_router.domain.access import ModelAccess
from meshwright_model_router.domain.choosing import Candidate, Choosing, Needs, chosen
from meshwright_model_router.domain.usage import Operation


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who would be asked ("": nobody can take the call), by which policy ("": the operator's), and
    all that were considered: those of the model, then those of its fallbacks.
    """

    deployment: str
    policy: str
    candidates: Sequence[Candidate[Any]]


class Explaining:
    """The use case behind ExplainRoute."""

    def __init__(self, access: ModelAccess, choosing: Choosing) -> None:
        self._access = access
        self._choosing = choosing

    async def explain(self, model: str, operation: Operation, needs: Needs) -> Explanation:
        """Return what a call with these needs would get now. Raises: ModelNotFound, Unavailable."""
        grant = await self._access.view(model, operation)
        policy = grant.resolved.policy
        others = [grant.instead(name) for name in policy.fallback_models]
        candidates: list[Candidate[Any]] = []
        for one in [grant, *others]:
            if one is not None:
                candidates += self._choosing.candidates(
                    one.resolved.routes, policy, needs, one.allows
                )
        first = chosen(candidates)
        return Explanation(
            first.deployment.name if first else "", grant.resolved.ruled_by, candidates
        )
