"""What the domain needs from outside."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_model_router.domain.budgets import Reservation
from meshwright_model_router.domain.conversation import Prompt
from meshwright_model_router.domain.output import ProviderOutput
from meshwright_model_router.domain.usage import UsageRecord


class ChatProvider(Protocol):
    """A deployment's way to its model."""

    def stream(
        self, model: str, prompt: Prompt, *, seconds_left: float | None
    ) -> AsyncGenerator[ProviderOutput, None]:
        """Yield Opened, pieces as they come, then Ended: one request to the provider, no retry.

        Pieces that are at hand together come as one. `model` is the provider's own name;
        `seconds_left` is what the caller has (None: no limit). Closing the generator closes the
        connection. Raises: the PROVIDER_* errors and ContextLengthExceeded; never ends without
        Ended.
        """
        ...


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of unit length, one a text, in order. `tokens`: of all texts; 0: not told."""

    values: Sequence[Sequence[float]]
    tokens: int


class EmbeddingProvider(Protocol):
    """A deployment's way to its embedding model."""

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int, seconds_left: float | None
    ) -> Vectors:
        """Return the vectors of `texts`, all of one length.

        `dimensions` 0 takes the model's own length. Raises: InvalidArgument when the model has no
        vectors of that length; the PROVIDER_* errors.
        """
        ...


class UsageLog(Protocol):
    """Where usage records go, each together with its event."""

    def admit(self) -> None:
        """Raise Unavailable while so many records wait that one more call is not safe to make."""
        ...

    async def settle(self, record: UsageRecord, reservation: Reservation | None = None) -> None:
        """Record and return when it is durable; a record that is there already stays as it is.

        What `reservation` holds is settled to the record as soon as that is durable.
        Raises: Unavailable when that takes too long. The record is then still written as soon as
        the store is back.
        """
        ...

    def submit(self, record: UsageRecord, reservation: Reservation | None = None) -> None:
        """Record without waiting; written soon, and before an orderly shutdown ends."""
        ...
