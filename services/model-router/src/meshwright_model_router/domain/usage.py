"""What a call consumed and what it was for: exactly one record a call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from meshwright_model_router.domain.output import ReportedUsage, TokenUsage
from meshwright_model_router.domain.pricing import Prices

MAX_PLAUSIBLE_TOKENS: Final = 10_000_000
"""No model takes or makes more in one call. Providers that say so are not believed."""


class Operation(StrEnum):
    """Kind of a call."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"
    MODERATE = "moderate"


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"
    """The process died with it: nobody knows what came back."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a call is for. (task_id, step, attempt) is recorded once per tenant and operation."""

    task_id: str
    step: int = 1
    attempt: int = 1
    session_id: str = ""
    feature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One request to a provider, ended. `number`: which one of its call, from 1.

    `repeated_by_platform`: it was repeated elsewhere, so budgets count it and nobody is charged.
    `first_token_milliseconds` 0: no output. `reason`: why it failed, or "".
    """

    tenant_id: str
    user_id: str
    correlation_id: str
    attribution: Attribution
    operation: Operation
    outcome: Outcome
    reason: str = ""
    model: str
    deployment: str
    provider: str
    usage: TokenUsage
    first_token_milliseconds: int
    duration_milliseconds: int
    number: int = 1
    repeated_by_platform: bool = False


def settle(
    reported: ReportedUsage | None,
    *,
    estimate_prompt: Callable[[], int],
    estimate_completion: Callable[[], int],
) -> TokenUsage:
    """Return the counts to record, without cost: the provider's where they can be true.

    A missing, negative or absurd count is replaced by our estimate, and so is a 0 where there was
    something to count. Parts are never larger than their whole. Estimates are made when needed.
    """
    if reported is None:
        return TokenUsage(estimate_prompt(), estimate_completion(), estimated=True)
    prompt, prompt_believed = _believe(reported.prompt_tokens, estimate_prompt)
    completion, completion_believed = _believe(reported.completion_tokens, estimate_completion)
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=min(max(reported.cached_tokens, 0), prompt) if prompt_believed else 0,
        reasoning_tokens=(
            min(max(reported.reasoning_tokens, 0), completion) if completion_believed else 0
        ),
        estimated=not (prompt_believed and completion_believed),
    )


def priced(usage: TokenUsage, prices: Prices) -> TokenUsage:
    """Return `usage` with its cost."""
    cost = prices.cost_micro_usd(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
    )
    return replace(usage, cost_micro_usd=cost)


def _believe(reported: int, estimate: Callable[[], int]) -> tuple[int, bool]:
    if 0 < reported <= MAX_PLAUSIBLE_TOKENS:
        return reported, True
    own = estimate()
    return own, reported == own
