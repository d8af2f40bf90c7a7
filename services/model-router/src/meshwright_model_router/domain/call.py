"""One call of Generate, and everything that can answer it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Protocol

from meshwright_model_router.domain.conversation import Prompt
from meshwright_model_router.domain.guards.guard_set import GuardSet, NamedGuards
from meshwright_model_router.domain.output import GenerationOutput
from meshwright_model_router.domain.usage import Attribution

DEFAULT_SIMILARITY: Final = 0.95
DEFAULT_CACHE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How stored answers are used. `seconds`: how long the new one may be.

    `private`: shared with no other user.
    """

    semantic: bool = False
    min_similarity: float = DEFAULT_SIMILARITY
    seconds: float = DEFAULT_CACHE_SECONDS
    refresh: bool = False
    no_store: bool = False
    private: bool = False


class EndAnswer(Exception):
    """Thrown into a generator where it has yielded: the answer ends there, by a guard's will.

    The provider's stream is closed, what was produced is settled, and Finished comes with the
    reason CONTENT_FILTER.
    """


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What is asked of a model. `model` "": the default one. `cache` None: no stored answers.

    `accepts_restart`: the caller understands `Restarted`; without it a stream that breaks after
    its first piece ends with its error. `guards`: those in force when the call began;
    `named_guards` are wanted beside them.
    """

    model: str
    prompt: Prompt
    attribution: Attribution
    accepts_restart: bool = False
    cache: CacheUse | None = None
    guards: GuardSet | None = None
    named_guards: NamedGuards = frozenset()


class Generator(Protocol):
    """Something that answers calls: a model, or a layer before it."""

    def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        """Yield Started, pieces, perhaps Restarted and pieces, then Finished once.

        Closing it early ends the provider's stream and settles what was produced. Raises: the
        errors of `domain.errors`, QuotaExceeded, Unavailable.
        """
        ...
