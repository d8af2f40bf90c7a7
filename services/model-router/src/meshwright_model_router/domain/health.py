"""How deployments do, and which of them rest: a breaker for each, and pauses they asked for.

Kept for each deployment and model of its provider: behind a pattern stand many models, of which one
may be down. A breaker opens after failures in a row or when too large a share of the last minute
failed; it lets one call through after its rest, and that one decides. A call counts once for a
deployment, however often the deployment was asked for it. Rate limits and cancelled calls are no
failures.

Other replicas' numbers and rests come from `HealthSharing`; without them this replica judges alone.
Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from meshwright_common.clock import Clock
from meshwright_model_router.domain.catalogue import Deployment, Route
from meshwright_model_router.domain.health_values import ModelKey, Rest
from meshwright_model_router.domain.model_health import ModelHealth
from meshwright_model_router.domain.routing import CoolDown

MAX_REST_SECONDS: Final = 3600.0
"""Longest pause of a deployment, whatever its provider asks for."""
TRIAL_SECONDS: Final = 30.0
"""How long a replica may try for the others; then another one may."""
MAX_WATCHED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """A breaker opened or closed, or a deployment asked for a pause of `seconds`."""

    health: ModelHealth
    kind: str
    """ "opened", "paused" or "closed"."""
    seconds: float = 0.0
    reason: str = ""
    elsewhere: bool = False
    """Another replica decided it."""


class Health:
    """All deployments that were asked lately."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._models: dict[ModelKey, ModelHealth] = {}
        self._listeners: list[Callable[[Change], None]] = []

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with every change, decided here or elsewhere. It must not wait."""
        self._listeners.append(listener)

    def _on_change(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)

    def of(self, route: Route[Any]) -> ModelHealth:
        """Return the health of where a route leads."""
        deployment = route.deployment
        key = (deployment.tenant_id, deployment.name, route.model)
        found = self._models.get(key)
        if found is None:
            found = self._add(key, route.cool_down)
        elif found.cool_down is not route.cool_down:
            found.cool_down = route.cool_down
        return found

    def at(self, key: ModelKey) -> ModelHealth:
        """Return the health behind `key`, for what other replicas say."""
        return self._models.get(key) or self._add(key, CoolDown())

    def _add(self, key: ModelKey, cool_down: CoolDown) -> ModelHealth:
        if len(self._models) >= MAX_WATCHED:
            self._forget_one()
        made = self._models[key] = ModelHealth(key, cool_down, self)
        return made

    def _forget_one(self) -> None:
        for key, one in self._models.items():
            if one.in_flight == 0 and one.rest is None:
                del self._models[key]
                return

    def models(self) -> Iterator[ModelHealth]:
        """Yield all that were asked lately."""
        yield from self._models.values()

    def models_of(self, deployment: Deployment) -> list[ModelHealth]:
        """Return the models of a deployment that were asked lately; several behind a pattern."""
        owner, name = deployment.tenant_id, deployment.name
        return [one for key, one in self._models.items() if key[:2] == (owner, name)]

    def grant(self, one: ModelHealth, seconds: float) -> None:
        """Let this replica try a broken deployment within `seconds`, one call at a time."""
        one.trial_until = self.clock.monotonic() + seconds
        one.wanted = False

    async def grant_wanted(self) -> None:
        """Let this replica try what its calls want to try: it is alone."""
        for one in self._models.values():
            if one.wanted:
                self.grant(one, TRIAL_SECONDS)

    # --- changes ----------------------------------------------------------------------------------

    def open(self, one: ModelHealth, reason: str) -> None:
        """Let a deployment rest after failures."""
        seconds = one.cool_down.seconds
        one.rest = Rest(self.clock.monotonic() + seconds, reason, broken=True)
        one.trial_until = 0.0
        self._on_change(Change(one, "opened", seconds, reason))

    def pause(self, one: ModelHealth, seconds: float, reason: str) -> None:
        """Let a deployment rest as its provider asked; an open breaker stays open."""
        seconds = min(seconds, MAX_REST_SECONDS)
        until = self.clock.monotonic() + seconds
        if one.rest is not None and (one.rest.broken or one.rest.until >= until):
            return
        one.rest = Rest(until, reason, broken=False)
        self._on_change(Change(one, "paused", seconds, reason))

    def close(self, one: ModelHealth) -> None:
        """Let calls through again: a trial succeeded."""
        one.begin_anew()
        self._on_change(Change(one, "closed"))

    def learn(self, one: ModelHealth, rest: Rest | None) -> None:
        """Take over what another replica decided."""
        before, one.rest = one.rest, rest
        if rest is None:
            if before is not None and before.broken:
                one.begin_anew()
                self._on_change(Change(one, "closed", elsewhere=True))
        elif before is None or (rest.broken and not before.broken):
            seconds = max(rest.until - self.clock.monotonic(), 0.0)
            kind = "opened" if rest.broken else "paused"
            self._on_change(Change(one, kind, seconds, rest.reason, elsewhere=True))
