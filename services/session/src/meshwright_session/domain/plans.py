"""What a plan includes, and what a tenant may use of it: the agreed limits come before the plan's.

A limit of 0 is none. Names of models may hold `*` for any characters; no names: all models.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from meshwright_session.domain.directory_models import Agreed, Plan

KIBIBYTE: Final = 1024
GIBIBYTE: Final = KIBIBYTE**3

MAX_MODELS: Final = 100
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9._:/@+*-]{1,128}")
MODEL_NAME_RULE: Final = "must be 1 to 128 of A-Z a-z 0-9 . _ : / @ + - and * for any characters"

SMALL_MODELS: Final = (
    *("*mini*", "*nano*", "*small*", "*tiny*", "*lite*", "*flash*", "*haiku*"),
    *("*-1b*", "*-1.5b*", "*-2b*", "*-3b*", "*-4b*", "*-7b*", "*-8b*", "*-9b*"),
)
"""How providers name the models that cost least."""
MORE_MODELS: Final = (
    *SMALL_MODELS,
    *("*medium*", "*sonnet*", "*turbo*", "*plus*", "gpt-4o*", "gpt-4.1*", "gpt-5*"),
    *("*-12b*", "*-13b*", "*-14b*", "*-20b*", "*-24b*", "*-27b*", "*-30b*", "*-32b*", "*-70b*"),
    *("*-72b*", "*-120b*"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used. `models` are names in lower case."""

    sessions: int
    tokens_per_day: int
    documents: int
    storage_bytes: int
    concurrent_turns: int
    models: tuple[str, ...]
    cost_micro_usd_per_day: int = 0


STARTER: Final = Limits(
    sessions=100,
    tokens_per_day=500_000,
    documents=1_000,
    storage_bytes=GIBIBYTE,
    concurrent_turns=3,
    models=SMALL_MODELS,
)
PROFESSIONAL: Final = Limits(
    sessions=10_000,
    tokens_per_day=10_000_000,
    documents=100_000,
    storage_bytes=100 * GIBIBYTE,
    concurrent_turns=20,
    models=MORE_MODELS,
)
ENTERPRISE: Final = Limits(
    sessions=0,
    tokens_per_day=0,
    documents=0,
    storage_bytes=0,
    concurrent_turns=100,
    models=(),
)
ALERT_PERCENTS: Final = (80, 90, 100)


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans of this platform. `alert_percents` of a limit are told to administrators."""

    by_name: Mapping[Plan, Limits]
    alert_percents: tuple[int, ...] = ALERT_PERCENTS

    def limits_of(self, plan: Plan, agreed: Agreed) -> Limits:
        """Return what a tenant of `plan` with agreed limits may use."""
        of_plan = self.by_name[plan]
        chosen = {one.name: getattr(agreed, one.name) for one in fields(Limits)}
        return Limits(
            **{
                name: getattr(of_plan, name) if value is None else value
                for name, value in chosen.items()
            }
        )

    @property
    def sessions(self) -> tuple[int, int, int]:
        """The limits of sessions of starter, professional and enterprise."""
        return (
            self.by_name["starter"].sessions,
            self.by_name["professional"].sessions,
            self.by_name["enterprise"].sessions,
        )

    @property
    def cost_micro_usd_per_day(self) -> tuple[int, int, int]:
        """The limits of costs a day of starter, professional and enterprise."""
        return (
            self.by_name["starter"].cost_micro_usd_per_day,
            self.by_name["professional"].cost_micro_usd_per_day,
            self.by_name["enterprise"].cost_micro_usd_per_day,
        )

    @property
    def tokens_per_day(self) -> tuple[int, int, int]:
        """The limits of tokens a day of starter, professional and enterprise."""
        return (
            self.by_name["starter"].tokens_per_day,
            self.by_name["professional"].tokens_per_day,
            self.by_name["enterprise"].tokens_per_day,
        )


DEFAULT_PLANS: Final = Plans(
    {"starter": STARTER, "professional": PROFESSIONAL, "enterprise": ENTERPRISE}
)
