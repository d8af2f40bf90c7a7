"""Which policy rules a model."""

from collections.abc import Iterable

from meshwright_model_router.domain.catalogue import WILDCARD
from meshwright_model_router.domain.routing import RoutingPolicy


class Rules:
    """Policies of one owner by the names they rule: an exact one wins over the longest pattern."""

    def __init__(self, policies: Iterable[RoutingPolicy] = ()) -> None:
        self._exact: dict[str, RoutingPolicy] = {}
        self._rest: RoutingPolicy | None = None
        patterns: dict[str, RoutingPolicy] = {}
        for policy in policies:
            if not policy.models:
                self._rest = policy
            for name in policy.models:
                (patterns if name.endswith(WILDCARD) else self._exact)[name] = policy
        self._patterns = sorted(patterns.items(), key=lambda one: -len(one[0]))

    def find(self, model: str) -> RoutingPolicy | None:
        """Return the policy of a model; None: none names it, and none rules the rest."""
        exact = self._exact.get(model)
        if exact is not None:
            return exact
        for pattern, policy in self._patterns:
            if model == pattern or model.startswith(pattern[:-1]):
                return policy
        return self._rest
