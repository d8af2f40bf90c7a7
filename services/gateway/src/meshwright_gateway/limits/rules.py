"""Which limits a request is under: compiled from the settings, anew whenever they change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshwright_gateway.limits.limit_settings import LimitsSection, RateSection
from meshwright_gateway.limits.rates import Rate

MINUTE: Final = 60
WHOLE: Final = "whole"
ADDRESS: Final = "address"
USER: Final = "user"
PLACES: Final = "concurrent"


@dataclass(frozen=True, slots=True)
class RouteRule:
    """What is special about a route: the name of its own rate, if any, and whether it is work."""

    name: str
    is_work: bool


@dataclass(frozen=True, slots=True)
class Tier:
    """What a user may do. None and 0: no limit."""

    name: str
    rate: Rate | None
    concurrent: int


_PLAIN: Final = RouteRule("", is_work=False)


class Rules:
    """The limits as they are now."""

    def __init__(self, section: LimitsSection) -> None:
        self.section = section
        self.whole = _per_second(WHOLE, section.whole)
        self.address = _per_second(ADDRESS, section.address)
        self.tiers = {
            name: Tier(name, _per_minute(USER, tier.per_minute), tier.concurrent)
            for name, tier in section.tiers.items()
        }
        self.route_rates = {
            name: _per_minute(f"route {name}", route.per_minute)
            for name, route in section.routes.items()
        }
        self._exact: dict[str, RouteRule] = {}
        self._shapes: list[tuple[str, str, RouteRule]] = []
        for path in section.work:
            self._add(path, RouteRule("", is_work=True))
        for name, route in section.routes.items():
            for path in route.paths:
                self._add(path, RouteRule(name, is_work=True))

    def _add(self, path: str, rule: RouteRule) -> None:
        beginning, star, end = path.partition("*")
        if star:
            self._shapes.append((beginning, end, rule))
        else:
            self._exact[path] = rule

    def route(self, method: str, path: str) -> RouteRule:
        """Return what is special about a request; of several shapes that of a route counts."""
        request = f"{method} {path}"
        rule = self._exact.get(request)
        if rule is not None:
            return rule
        found = _PLAIN
        for beginning, end, rule in self._shapes:
            if request.startswith(beginning) and request.endswith(end):
                found = rule
        return found

    def tier_of(self, plan: str | None) -> Tier:
        """Return the tier of a plan; None: the plan cannot be learnt."""
        section = self.section
        names: dict[str, str] = {str(name): tier for name, tier in section.tier_of_plan.items()}
        name = section.tier_when_unknown if plan is None else names.get(plan)
        return self.tiers[name or section.tier_when_unknown]


def _per_second(name: str, section: RateSection) -> Rate | None:
    if not section.per_second:
        return None
    return Rate.of(name, section.per_second, 1, section.burst)


def _per_minute(name: str, limit: int) -> Rate | None:
    return Rate.of(name, limit, MINUTE) if limit else None
