"""What a guard is: which texts it reads, what it looks for, what it does. The wire is
`guard_service.proto`.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

DEFAULT_LONGEST_MATCH: Final = 128
DEFAULT_JUDGE_SECONDS: Final = 1.0
DEFAULT_JUDGE_CHARACTERS: Final = 512


class Side(StrEnum):
    """Which texts are meant: what is sent to the model, or what it answers."""

    INPUT = "input"
    OUTPUT = "output"


class Action(StrEnum):
    """What is done with what was found."""

    BLOCK = "block"
    REDACT = "redact"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class RegexKind:
    """Looks for regular expressions of RE2, whose matches have at most `longest_match` characters.

    A longer match is none: it is the window that a stream is held for.
    """

    patterns: tuple[str, ...]
    longest_match: int = DEFAULT_LONGEST_MATCH


@dataclass(frozen=True, slots=True)
class PiiKind:
    """Looks for personal data of these kinds, see `pii_kinds`."""

    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordsKind:
    """Looks for words and phrases, without regard to case."""

    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpKind:
    """Asks a service. `window_characters` of output are judged at once."""

    url: str
    timeout_seconds: float = DEFAULT_JUDGE_SECONDS
    fail_open: bool = False
    window_characters: int = DEFAULT_JUDGE_CHARACTERS


@dataclass(frozen=True, slots=True)
class PythonKind:
    """Asks the operator's own code, by its name in the configuration."""

    name: str


GuardKind: TypeAlias = RegexKind | PiiKind | WordsKind | HttpKind | PythonKind


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard. `sides`: at least one. `replacement` "": the category in brackets.

    `models`: names that it applies to, `*` for any characters; none: all. `etag`: of a tenant's
    guard; "" for the operator's.
    """

    name: str
    kind: GuardKind
    action: Action
    sides: frozenset[Side] = frozenset(Side)
    replacement: str = ""
    models: tuple[str, ...] = ()
    disabled: bool = False
    operator_owned: bool = False

    def replaces(self, category: str) -> str:
        """Return what stands in the place of something of this category."""
        return self.replacement or f"[{category}]"

    def applies_to(self, model: str) -> bool:
        """Return whether it reads the texts of a model, named as the caller names it."""
        return not self.models or any(fnmatchcase(model, one) for one in self.models)
