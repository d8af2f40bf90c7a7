"""What a call consumed and what it was for: exactly one record a call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from meshwright_model_router.domain.output import ReportedUsage, TokenUsage
from meshwright_model_router.domain.pricing import Prices

MAX_PLAUSIBLE_TOKENS: Final = 10_000_000
"""No model takes or makes more in one call. Providers that say so are not believed."""
UNQUESTIONED_TOKENS: Final = 100_000
"""A prompt of so many tokens by the provider's word is believed without a count of ours."""
MISCOUNT: Final = 8
"""How many times ours another tokenizer may count: one token a character, or one for two words."""


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
    completion_bound: int = 0,
) -> TokenUsage:
    """Return the counts to record, without cost: the provider's where they can be true.

    A missing, negative or absurd count is replaced by our estimate, and so is a 0 where there was
    something to count. Output beyond `completion_bound`, which the provider was given (0: none), is
    not believed. Parts are never larger than their whole. Estimates are made when needed.
    """
    if reported is None:
        return TokenUsage(estimate_prompt(), estimate_completion(), estimated=True)
    prompt, prompt_believed = _believe(reported.prompt_tokens, estimate_prompt)
    if prompt_believed and prompt > UNQUESTIONED_TOKENS:
        # Images and the provider's own instructions count, but not for so much.
        own = estimate_prompt()
        if prompt > MISCOUNT * MISCOUNT * max(own, 1):
            prompt, prompt_believed = own, False
    completion, completion_believed = _believe(reported.completion_tokens, estimate_completion)
    if 0 < completion_bound < completion and completion_believed:
        completion, completion_believed = max(completion_bound, estimate_completion()), False
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=min(max(reported.cached_tokens, 0), prompt) if prompt_believed else 0,
        reasoning_tokens=(
            min(max(reported.reasoning_tokens, 0), completion) if completion_believed else 0
        ),
        estimated=not (prompt_believed and completion_believed),
    )


def is_told(reported: ReportedUsage, own_completion: int) -> bool:
    """Return whether a provider's count of output so far can be true beside ours of the same.

    Some tell it with every piece, which is better than any estimate; some tell a first guess.
    """
    told = reported.completion_tokens
    return told > 0 and own_completion <= MISCOUNT * told and told <= MISCOUNT * own_completion


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
