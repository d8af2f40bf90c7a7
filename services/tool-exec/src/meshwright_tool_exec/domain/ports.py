"""What the domain needs from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshwright_tool_exec.domain.models import Call, CallKey, Effect, JsonObject, Outcome


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the ledger says about a call that is about to run.

    `outcome` is set when the call ended earlier: nothing may run. `interrupted` is true when an
    earlier run began and left no outcome: whether it took effect is not known.
    """

    outcome: Outcome | None = None
    interrupted: bool = False


class EffectLedger(Protocol):
    """Records each call before it runs and its outcome once."""

    async def prepare(self, call: Call, run_id: str, effect: Effect) -> Prepared:
        """Commit the intent to run, with its audit record, before anything leaves.

        `run_id` takes the call over from any earlier run. Repeating a recorded key returns what
        is known of it. Raises: InvalidArgument when the key was used for another tool or other
        arguments; Unavailable.
        """
        ...

    async def record(self, tenant_id: str, key: CallKey, run_id: str, outcome: Outcome) -> None:
        """Commit the outcome. Raises: CallSuperseded when another run took the call over."""
        ...


class PassageSearch(Protocol):
    """Finds passages in the tenant's documents."""

    async def search(
        self, query: str, *, knowledge_base_ids: Sequence[str], top_k: int
    ) -> Sequence[JsonObject]:
        """Return up to `top_k` passages as JSON objects of Citation, best first."""
        ...


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """An HTTP answer. `text` is readable text; `url` is the last one after redirects."""

    url: str
    status: int
    media_type: str
    text: str


class WebFetcher(Protocol):
    """Reads public web addresses only."""

    async def get(self, url: str, *, max_bytes: int) -> FetchedPage:
        """Fetch `url`.

        Raises: PermissionDenied (EGRESS_REFUSED) for an address that is not public;
        ToolFailed when there is no text to read or it is longer than `max_bytes`.
        """
        ...
