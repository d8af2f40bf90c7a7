"""Which deployments can take a call, and in what order they are tried.

One function does it for calls and for ExplainRoute. Within an equal rank the order is random, or,
for a session that is to stay where its prompts are cached, drawn from the session's id: weighted
rendezvous hashing (Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996), so
that all replicas draw the same and a deployment that is out moves its own sessions only.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

from meshwright_common.clock import Clock
from meshwright_model_router.domain.catalogue import Deployment, Route
from meshwright_model_router.domain.health import Health
from meshwright_model_router.domain.health_values import Rest
from meshwright_model_router.domain.model_health import ModelHealth
from meshwright_model_router.domain.routing import RoutingPolicy, Strategy

P_co = TypeVar("P_co", covariant=True)

USUAL_OUTPUT_TOKENS: Final = 500
"""Length of an answer that nobody bounds, for comparing costs."""
_DRAWN: Final = frozenset({Strategy.WEIGHTED, Strategy.LEAST_BUSY, Strategy.LOWEST_LATENCY})
"""Strategies whose choice changes from call to call: for a session that stays, it is drawn."""


class Exclusion(StrEnum):
    """Why a deployment cannot take a call."""

    NONE = ""
    DISABLED = "disabled"
    NOT_ALLOWED = "not_allowed"
    CAPABILITY = "capability"
    CONTEXT_WINDOW = "context_window"
    COOLING_DOWN = "cooling_down"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a call needs. `output_tokens` 0: it sets no bound."""

    capabilities: frozenset[str] = frozenset()
    prompt_tokens: int = 0
    output_tokens: int = 0
    session_id: str = ""


@dataclass(slots=True)
class Candidate(Generic[P_co]):
    """A deployment that serves the model. `score`: lower is tried first; 0 unless eligible.

    `free_at`: monotonic seconds from which one that cools down or is full takes calls again.
    """

    route: Route[P_co]
    health: ModelHealth
    exclusion: Exclusion = Exclusion.NONE
    score: float = 0.0
    free_at: float | None = None
    is_rested: bool = False
    """It was broken, has rested, and waits to be tried."""

    @property
    def deployment(self) -> Deployment:
        """The deployment."""
        return self.route.deployment

    @property
    def eligible(self) -> bool:
        """True when it can take the call."""
        return self.exclusion is Exclusion.NONE

    @property
    def rest(self) -> Rest | None:
        """Why it rests, if it does."""
        return self.health.rest


@dataclass(slots=True)
class Choosing:
    """Chooses by what a policy says and by how deployments do."""

    health: Health
    clock: Clock
    draw: Callable[[], float] = field(default=random.random)

    def candidates(
        self,
        routes: Sequence[Route[P_co]],
        policy: RoutingPolicy,
        needs: Needs,
        allows: Callable[[Deployment], bool],
    ) -> list[Candidate[P_co]]:
        """Return all of `routes` in the order in which they are tried; excluded ones come last.

        A capability that no deployment of the model is said to have excludes none of them: what
        the operator did not say is not known, and the provider decides.
        """
        now = self.clock.monotonic()
        needed = needs.capabilities
        if needed:
            known = {one for route in routes for one in route.deployment.capabilities}
            needed &= known
        found = [Candidate(route, self.health.of(route)) for route in routes]
        for one in found:
            self._exclude(one, needs, needed, allows, now)
        if len(found) > 1:
            self._order(found, policy, needs, now)
        return found

    def _exclude(
        self,
        one: Candidate[P_co],
        needs: Needs,
        needed: frozenset[str],
        allows: Callable[[Deployment], bool],
        now: float,
    ) -> None:
        deployment = one.route.deployment
        window = deployment.context_window
        if deployment.disabled:
            one.exclusion = Exclusion.DISABLED
        elif not allows(deployment):
            one.exclusion = Exclusion.NOT_ALLOWED
        elif needed and not needed.issubset(deployment.capabilities):
            one.exclusion = Exclusion.CAPABILITY
        elif window and needs.prompt_tokens + needs.output_tokens > window:
            one.exclusion = Exclusion.CONTEXT_WINDOW
        elif (until := one.health.rests_until(now)) is not None:
            one.exclusion, one.free_at = Exclusion.COOLING_DOWN, until
            one.is_rested = until <= now
        elif one.health.full_until > now:
            one.exclusion, one.free_at = Exclusion.LIMIT, one.health.full_until

    def _order(
        self, found: list[Candidate[P_co]], policy: RoutingPolicy, needs: Needs, now: float
    ) -> None:
        session = needs.session_id if policy.sticky_by_session else ""
        ties: dict[int, float] = {}
        for one in found:
            drawn = _drawn(session, one.deployment) if session else self.draw()
            ties[id(one)] = drawn
            if one.eligible:
                one.score = self._score(one, policy.strategy, needs, now, drawn, bool(session))
        found.sort(key=lambda one: (not one.eligible, one.score, ties[id(one)]))

    def _score(
        self,
        one: Candidate[P_co],
        strategy: Strategy,
        needs: Needs,
        now: float,
        drawn: float,
        stays: bool,
    ) -> float:
        deployment = one.deployment
        if strategy is Strategy.WEIGHTED or (stays and strategy in _DRAWN):
            # The smallest of these keys is a draw by weight, the rest of the order likewise
            # (Efraimidis and Spirakis, 2006).
            return -math.log(max(drawn, 1e-300)) / deployment.weight
        match strategy:
            case Strategy.PRIORITY:
                return float(deployment.priority)
            case Strategy.LEAST_BUSY:
                return float(one.health.busy())
            case Strategy.LOWEST_LATENCY:
                # As Finagle weighs it: what waits there already takes its time as well.
                return one.health.slowness(now) * (one.health.busy() + 1)
            case Strategy.LOWEST_COST:
                return self._cost(deployment, needs)
        raise AssertionError(strategy)

    def _cost(self, deployment: Deployment, needs: Needs) -> float:
        """Return millionths of a US dollar for what the call may take, not rounded."""
        prices = deployment.prices.at(self.clock.now())
        output = needs.output_tokens or USUAL_OUTPUT_TOKENS
        return (needs.prompt_tokens * prices.input + output * prices.output) / 1_000_000


def chosen(candidates: Iterable[Candidate[P_co]]) -> Candidate[P_co] | None:
    """Return the one that is tried first; None: no one can take the call."""
    return next((one for one in candidates if one.eligible), None)


def _drawn(session_id: str, deployment: Deployment) -> float:
    """Return a number in (0, 1) that belongs to this session and deployment."""
    owner, name = deployment.key
    digest = hashlib.blake2b(f"{session_id}\0{owner}\0{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / (2**64 + 1)
