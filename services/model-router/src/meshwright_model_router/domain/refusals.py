"""What a call is told that no deployment can take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from meshwright_common.clock import Clock
from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.access import Grant
from meshwright_model_router.domain.choosing import Candidate, Exclusion, Needs
from meshwright_model_router.domain.errors import (
    ContextLengthExceeded,
    DeploymentLimited,
    NoDeployment,
    NotCapable,
    ProviderCredentials,
    ProviderRateLimit,
)

LEAST_RETRY_SECONDS = 1.0


def refusal(
    grant: Grant[Any], candidates: Sequence[Candidate[Any]], needs: Needs, clock: Clock
) -> ServiceError:
    """Return the error for a call of which all `candidates` are excluded.

    What passes by itself is told first, with the time until the first of them is free. Deployments
    that pause as their provider asked are its rate limit still, and those that rest for a refused
    credential have it refused still: the caller is told the same.
    """
    model = grant.model
    by_exclusion = {
        exclusion: [one for one in candidates if one.exclusion is exclusion]
        for exclusion in Exclusion
    }
    resting = by_exclusion[Exclusion.COOLING_DOWN]
    if resting:
        return _resting(model, resting, clock.monotonic())
    if full := by_exclusion[Exclusion.LIMIT]:
        return DeploymentLimited(
            f"All deployments of {model!r} are at their limits.",
            retry_after_seconds=LEAST_RETRY_SECONDS,
            deployment=full[0].deployment.name,
        )
    if small := by_exclusion[Exclusion.CONTEXT_WINDOW]:
        window = max(one.deployment.context_window for one in small)
        wanted = f"{needs.prompt_tokens} tokens"
        if needs.output_tokens:
            wanted += f" and an answer of up to {needs.output_tokens}"
        return ContextLengthExceeded(
            f"The conversation of about {wanted} does not fit the context window of {model!r}, "
            f"which is {window} tokens.",
            model=model,
        )
    if by_exclusion[Exclusion.CAPABILITY]:
        return NotCapable(model=model, capabilities=", ".join(sorted(needs.capabilities)))
    return NoDeployment(f"All deployments of {model!r} are disabled.", model=model)


def _resting(model: str, resting: Iterable[Candidate[Any]], now: float) -> ServiceError:
    soonest = min(resting, key=lambda one: one.free_at or now)
    seconds = max((soonest.free_at or now) - now, LEAST_RETRY_SECONDS)
    rest, failure = soonest.rest, soonest.health.last_failure
    said = f" The last failure: {failure.message}" if failure else ""
    if rest is not None and rest.reason == ProviderCredentials.reason:
        # Nothing passes by itself here: somebody has to mend it.
        refused = f"The provider of {soonest.deployment.name!r} refused our credential."
        return ProviderCredentials(
            failure.message if failure else refused,
            retry_after_seconds=seconds,
            deployment=soonest.deployment.name,
        )
    if rest is not None and not rest.broken:
        return ProviderRateLimit(
            f"The provider of {soonest.deployment.name!r} asked for a pause.{said}",
            retry_after_seconds=seconds,
            deployment=soonest.deployment.name,
        )
    return NoDeployment(
        f"All deployments of {model!r} rest after failures.{said}",
        retry_after_seconds=seconds,
        model=model,
        deployment=soonest.deployment.name,
        last_failure=rest.reason if rest else "",
    )
