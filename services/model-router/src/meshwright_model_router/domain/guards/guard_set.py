"""The guards of one tenant, ready to be used: the operator's first, then its own, by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from meshwright_model_router.domain.errors import GuardUnavailable
from meshwright_model_router.domain.guards.guard import (
    Guard,
    HttpKind,
    PiiKind,
    PythonKind,
    RegexKind,
    Side,
)
from meshwright_model_router.domain.guards.judging import Judge
from meshwright_model_router.domain.guards.matching import Matcher
from meshwright_model_router.domain.guards.pii_matcher import PiiMatcher
from meshwright_model_router.domain.guards.regex_matcher import RegexMatcher
from meshwright_model_router.domain.guards.stages import JudgeStage, MatcherStage, Stage
from meshwright_model_router.domain.guards.word_matcher import WordMatcher


class Judges(Protocol):
    """Makes judges."""

    def http(self, guard: str, kind: HttpKind, *, operator_owned: bool) -> Judge:
        """Return the judge behind an address. Raises: EgressRefused."""
        ...

    def python(self, guard: str, kind: PythonKind) -> Judge:
        """Return the operator's code of this name. Raises: InvalidArgument when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class MatcherGuard:
    """A guard with what it looks for."""

    guard: Guard
    matcher: Matcher

    def stage(self, side: Side, model: str) -> Stage:
        """Return it at work on a text."""
        return MatcherStage(self.guard, self.matcher, side)


@dataclass(frozen=True, slots=True)
class JudgeGuard:
    """A guard with whom it asks."""

    guard: Guard
    judge: Judge

    def stage(self, side: Side, model: str) -> Stage:
        """Return it at work on a text."""
        return JudgeStage(self.guard, self.judge, side, model)


ReadyGuard: TypeAlias = MatcherGuard | JudgeGuard
NamedGuards: TypeAlias = frozenset[tuple[Side, str]]
"""Guards that a call wants beside those in force, by side and name."""


def ready(guard: Guard, judges: Judges) -> ReadyGuard:
    """Return the guard with all that it needs. Raises: InvalidArgument, EgressRefused."""
    kind = guard.kind
    if isinstance(kind, HttpKind):
        judge = judges.http(guard.name, kind, operator_owned=guard.operator_owned)
        return JudgeGuard(guard, judge)
    if isinstance(kind, PythonKind):
        return JudgeGuard(guard, judges.python(guard.name, kind))
    if isinstance(kind, RegexKind):
        return MatcherGuard(guard, RegexMatcher(kind.patterns, kind.longest_match))
    if isinstance(kind, PiiKind):
        return MatcherGuard(guard, PiiMatcher(kind.kinds))
    return MatcherGuard(guard, WordMatcher(kind.phrases))


@dataclass(frozen=True, slots=True)
class GuardSet:
    """Guards in the order in which each text passes them. `version`: another one for others.

    `named`: sides that a call names guards for, beside those that read it anyway.
    """

    guards: tuple[ReadyGuard, ...] = ()
    version: str = ""
    named: NamedGuards = frozenset()

    def of(self, side: Side, model: str) -> Sequence[ReadyGuard]:
        """Return those that read this side of a model's calls."""
        return [
            one
            for one in self.guards
            if (side, one.guard.name) in self.named
            or (side in one.guard.sides and not one.guard.disabled and one.guard.applies_to(model))
        ]

    def naming(self, named: NamedGuards) -> "GuardSet":
        """Return the set in which these guards read, too, also those that are disabled or of other
        models and sides. Raises: GuardUnavailable for one that there is not.
        """
        if not named:
            return self
        known = self.owners()
        gone = sorted(name for _, name in named if name not in known)
        if gone:
            raise GuardUnavailable(f"There is no guard {gone[0]}, which the call names.")
        texts = sorted(f"{side.value} {name}" for side, name in named)
        return GuardSet(self.guards, "|".join((self.version, *texts)), named)

    def owners(self) -> Mapping[str, bool]:
        """Return whether each guard, by name, is the operator's."""
        return {one.guard.name: one.guard.operator_owned for one in self.guards}


NO_GUARDS = GuardSet()


ModelNamed: TypeAlias = Callable[[str], str]
"""Returns the name of the model that the caller means: "" is the default one's."""


class GuardTables(Protocol):
    """The guards of all tenants, a few seconds old at most."""

    def of(self, tenant_id: str) -> GuardSet:
        """Return the guards of a tenant, from memory."""
        ...
