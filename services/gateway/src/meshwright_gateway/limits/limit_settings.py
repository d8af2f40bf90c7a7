"""Settings of the request limits: `MESHWRIGHT_GATEWAY__LIMITS__…`, and the same names in a file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from meshwright_common.settings import Section

PlanName = Literal["starter", "professional", "enterprise"]
MOST_REQUESTS: Final = 10_000_000
_ROUTE_NAME: Final = re.compile(r"[a-z0-9_-]{1,50}")
_PATTERN: Final = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /[A-Za-z0-9/._-]*(\*[A-Za-z0-9/._-]*)?")


class RateSection(Section):
    """Requests per second, and how many may come at once; 0: no limit. `burst` 0: as many."""

    per_second: int = Field(ge=0, le=MOST_REQUESTS)
    burst: int = Field(default=0, ge=0, le=MOST_REQUESTS)


class TierSection(Section):
    """What one user may do: requests that make the platform work, and how many of them at the same
    time; 0: no limit.
    """

    per_minute: int = Field(ge=0, le=MOST_REQUESTS)
    concurrent: int = Field(ge=0, le=MOST_REQUESTS)


class RouteSection(Section):
    """What one user may ask of some routes together; `per_minute` 0: no limit.

    `paths`: "POST /api/v1/chat"; a last `*` stands for any rest, one in the middle for a piece.
    """

    per_minute: int = Field(ge=0, le=MOST_REQUESTS)
    paths: tuple[str, ...] = Field(min_length=1, max_length=50)

    @field_validator("paths")
    @classmethod
    def _are_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return _patterns(paths)


class LoadSection(Section):
    """How many requests may be on their way to their first byte: the process finds the number
    between `least` and `most` that keeps what is ready to run from waiting `target_seconds`.
    """

    least: int = Field(default=128, ge=1, le=100_000)
    most: int = Field(default=1_000, ge=1, le=100_000)
    target_seconds: float = Field(default=0.02, gt=0, le=10)

    @model_validator(mode="after")
    def _is_ordered(self) -> LoadSection:
        if self.most < self.least:
            raise ValueError("most must not be below least")
        return self


REGENERATE: Final = "POST /api/v1/turns/*/regenerate"
_DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    "tiers": {
        "free": {"per_minute": 20, "concurrent": 2},
        "pro": {"per_minute": 100, "concurrent": 10},
        "enterprise": {"per_minute": 500, "concurrent": 50},
    },
    "tier_of_plan": {"starter": "free", "professional": "pro", "enterprise": "enterprise"},
    "routes": {
        "chat": {"per_minute": 60, "paths": ("POST /api/v1/chat", REGENERATE)},
        "agents": {"per_minute": 30, "paths": ("POST /api/v1/agents/execute",)},
        "search": {"per_minute": 120, "paths": ("POST /api/v1/search",)},
    },
}
WORK: Final = (
    "POST /v1/*",
    "POST /api/v1/chat",
    REGENERATE,
    "POST /api/v1/agents/execute",
    "POST /api/v1/tasks",
    "POST /api/v1/search",
    "POST /api/v1/memories/search",
    "POST /api/v1/tools/*",
)
"""Requests behind which stands a model, an index or a tool."""


class LimitsSection(Section):
    """How many requests are let in. What a nested name does not say stays as it is by default."""

    enabled: bool = True
    """False: nothing is counted and nobody is refused."""

    file: str = ""
    """A YAML file with these same names, which win over the settings. Looked at every 0.4 s."""

    replicas: int = Field(default=1, ge=1, le=1000)
    """Gateways that share the limits: while Redis is away each grants its share alone."""

    redis_timeout_seconds: float = Field(default=0.5, gt=0, le=5)
    """How long a request waits for Redis before the share of this gateway decides."""

    whole: RateSection = RateSection(per_second=10_000, burst=15_000)
    """All requests to all gateways."""

    address: RateSection = RateSection(per_second=1_000)
    """Requests from one address: an IPv4 address, or the /64 of an IPv6 address."""

    tiers: dict[str, TierSection] = Field(default={}, validate_default=True, max_length=50)
    """What users may do, by tier; tiers of your own may be added."""

    tier_of_plan: dict[PlanName, str] = Field(default={}, validate_default=True)
    """Which tier the plan of a tenant gives to its users."""

    tier_when_unknown: str = "free"
    """For users whose plan cannot be learnt, because the directory is away."""

    routes: dict[str, RouteSection] = Field(default={}, validate_default=True, max_length=50)
    """What one user may ask of certain routes, by a name of your choice."""

    work: tuple[str, ...] = Field(default=WORK, max_length=100)
    """Which requests count in a user's tier; `paths` of `routes` always do."""

    @field_validator("tiers", "tier_of_plan", "routes", mode="before")
    @classmethod
    def _complete(cls, given: object, info: ValidationInfo) -> object:
        if not isinstance(given, Mapping):
            return given
        return _merged(_DEFAULTS[str(info.field_name)], given)

    @field_validator("routes")
    @classmethod
    def _are_named(cls, routes: dict[str, RouteSection]) -> dict[str, RouteSection]:
        for name in routes:
            if not _ROUTE_NAME.fullmatch(name):
                raise ValueError(f"{name[:100]!r} is no name: 1 to 50 of a-z 0-9 _ -")
        return routes

    @field_validator("work")
    @classmethod
    def _are_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return _patterns(paths)

    @model_validator(mode="after")
    def _name_tiers(self) -> LimitsSection:
        named = [*self.tier_of_plan.items(), ("tier_when_unknown", self.tier_when_unknown)]
        for plan, tier in named:
            if tier not in self.tiers:
                known = ", ".join(sorted(self.tiers))
                raise ValueError(f"{plan}: no tier is named {tier!r}; there are {known}")
        return self


def _merged(base: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return `base` with what is given, one level deeper where both are mappings."""
    merged = dict(base)
    for name, value in given.items():
        known = merged.get(name)
        new = value.model_dump() if isinstance(value, Section) else value
        if isinstance(known, Mapping) and isinstance(new, Mapping):
            new = {**known, **new}
        merged[name] = new
    return merged


def overlaid(section: LimitsSection, content: Mapping[str, object]) -> LimitsSection:
    """Return the section with what a file says. Raises: pydantic.ValidationError."""
    given = section.model_dump()
    for name, value in content.items():
        known = given.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            given[name] = _merged(known, value)
        else:
            given[name] = value
    return LimitsSection.model_validate(given)


def _patterns(paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        if not _PATTERN.fullmatch(path):
            raise ValueError(
                f"{path[:200]!r} is not a method and a path, as POST /api/v1/chat or POST /v1/*"
            )
    return paths


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Return networks from "10.0.0.0/8" or "::1". Raises: ValueError naming the wrong one."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise ValueError(f"{text[:100]!r} is not a network: write it as 10.0.0.0/8") from None
    return tuple(found)
