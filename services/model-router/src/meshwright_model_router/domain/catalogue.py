"""Which deployment serves a model name."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from meshwright_model_router.domain.errors import ModelNotFound
from meshwright_model_router.domain.ports import ChatProvider, EmbeddingProvider
from meshwright_model_router.domain.pricing import Prices
from meshwright_model_router.domain.usage import Operation

WILDCARD: Final = "*"

_REQUESTED: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,512}")
"""What a name may hold that only a pattern knows: it is sent to the provider as it is."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model as the platform offers it.

    `name` is what clients ask for: one name, or a pattern `prefix*`. `model` is what the provider
    is asked for; `*` passes the requested name on. `context_window` 0: unknown.
    """

    name: str
    provider: str
    model: str
    context_window: int = 0
    capabilities: tuple[str, ...] = ()
    prices: Prices = field(default_factory=Prices)
    embedding_dimensions: int = 0

    @property
    def is_pattern(self) -> bool:
        """True when `name` stands for every name with its prefix."""
        return self.name.endswith(WILDCARD)

    def serves(self, name: str) -> bool:
        """Return whether a request for `name` may go here."""
        if self.is_pattern:
            return name.startswith(self.name[:-1]) and bool(_REQUESTED.fullmatch(name))
        return name == self.name

    def provider_model(self, requested: str) -> str:
        """Return the name to send to the provider for a request."""
        return requested if self.model == WILDCARD else self.model


P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Route(Generic[P]):
    """Where a request goes: the deployment, its provider, and the provider's model name."""

    deployment: Deployment
    provider: P
    model: str


class _Names(Generic[P]):
    """Names of one purpose; an exact name wins over a pattern, a longer pattern over a shorter."""

    def __init__(
        self, served: Iterable[tuple[Deployment, P]], default: str, operation: Operation
    ) -> None:
        pairs = list(served)
        self._exact = {one.name: (one, provider) for one, provider in pairs if not one.is_pattern}
        self._patterns = sorted(
            (pair for pair in pairs if pair[0].is_pattern), key=lambda pair: -len(pair[0].name)
        )
        self._default = default
        self._operation = operation

    @property
    def deployments(self) -> list[Deployment]:
        """All of them, by name."""
        both = [*self._exact.values(), *self._patterns]
        return sorted((deployment for deployment, _ in both), key=lambda one: one.name)

    def find(self, name: str) -> Route[P]:
        wanted = name or self._default
        found = self._exact.get(wanted)
        if found is None:
            found = next((pair for pair in self._patterns if pair[0].serves(wanted)), None)
        if found is None or not wanted:
            known = (deployment.name for deployment in self.deployments)
            raise ModelNotFound.among(wanted, known, purpose=self._operation.value)
        deployment, provider = found
        return Route(deployment, provider, deployment.provider_model(wanted))


class Catalogue:
    """Every model there is, and the ones meant when nobody names one."""

    def __init__(
        self,
        chat: Sequence[tuple[Deployment, ChatProvider]],
        embedding: Sequence[tuple[Deployment, EmbeddingProvider]],
        *,
        default: str,
        default_embedding: str,
    ) -> None:
        self._chat = _Names(chat, default, Operation.GENERATE)
        self._embedding = _Names(embedding, default_embedding, Operation.EMBED)

    @property
    def chat_deployments(self) -> list[Deployment]:
        """Deployments that generate, by name."""
        return self._chat.deployments

    @property
    def embedding_deployments(self) -> list[Deployment]:
        """Deployments that embed, by name."""
        return self._embedding.deployments

    def find_chat(self, name: str) -> Route[ChatProvider]:
        """Return who generates for `name`; "" is the default. Raises: ModelNotFound."""
        return self._chat.find(name)

    def find_embedding(self, name: str) -> Route[EmbeddingProvider]:
        """Return who embeds for `name`; "" is the default. Raises: ModelNotFound."""
        return self._embedding.find(name)
