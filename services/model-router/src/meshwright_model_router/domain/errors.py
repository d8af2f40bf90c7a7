"""What a model call may answer with. Reasons are values of `meshwright.errors.v1.ErrorReason`."""

from collections.abc import Iterable
from typing import Self

from meshwright_common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)


class ModelNotFound(NotFound):
    """No deployment serves this model name."""

    reason = "MODEL_NOT_FOUND"

    @classmethod
    def among(cls, name: str, known: Iterable[str], *, purpose: str) -> Self:
        """Return the error that lists what exists; `purpose` is "generate" or "embed"."""
        models = ", ".join(known) or "none"
        asked = f"No model is named {name!r} that can {purpose}." if name else "No model is named."
        return cls(f"{asked} Models that can: {models}.", model=name, models=models)


class ModelNotAllowed(PermissionDenied):
    """The tenant's plan does not include the model."""

    reason = "MODEL_NOT_ALLOWED"
    text = "The plan {plan} does not include the model {model}. It includes: {allowed}."


class ProviderUnavailable(Unavailable):
    """The provider refused or could not be reached; the same call may succeed after a pause."""

    reason = "PROVIDER_UNAVAILABLE"


class ProviderTruncated(Unavailable):
    """The provider's stream broke before its end: what came is incomplete."""

    reason = "PROVIDER_TRUNCATED"


class ProviderProtocol(Unavailable):
    """The provider sent something that is not its protocol."""

    reason = "PROVIDER_PROTOCOL"


class AnswerTooLong(ProviderProtocol):
    """The provider's answer has no end: nobody asks for it again."""


class NotCapable(InvalidArgument):
    """Deployments serve the model, and none can do all that the call needs."""

    text = "No deployment of {model} can do all of: {capabilities}."


class ProviderTimeout(DeadlineExceeded):
    """No first byte, no byte for too long, or no end in time."""

    reason = "PROVIDER_TIMEOUT"


class ProviderCredentials(FailedPrecondition):
    """The provider refused our credential; the operator must mend it."""

    reason = "PROVIDER_CREDENTIALS"


class ProviderRateLimit(ResourceExhausted):
    """The provider's rate limit, or its quota."""

    reason = "PROVIDER_RATE_LIMIT"


class ProviderRejected(InvalidArgument):
    """The provider refused the request; the text is the provider's."""

    reason = "PROVIDER_REJECTED"


class ContextLengthExceeded(InvalidArgument):
    """The conversation does not fit the model's context window."""

    reason = "CONTEXT_LENGTH_EXCEEDED"


class DeploymentLimited(ResourceExhausted):
    """The deployment carries no more at the moment; another one may."""

    reason = "RESOURCE_EXHAUSTED"
    text = "Deployment {deployment} is at its limit of {limit}."


class NoDeployment(Unavailable):
    """Deployments serve the model, and none can take the call now."""

    reason = "NO_DEPLOYMENT"


class LimitsUnavailable(Unavailable):
    """Budgets cannot be counted now, and may not be passed over."""

    reason = "LIMITS_UNAVAILABLE"
    text = "Budgets cannot be counted at the moment."


class GuardBlocked(InvalidArgument):
    """A guard refuses the text."""

    reason = "GUARD_BLOCKED"
    text = "Guard {guard} refuses the text: {category}."


class GuardUnavailable(Unavailable):
    """A guard gave no verdict in time, and may not be passed over."""

    reason = "GUARD_UNAVAILABLE"
    text = "Guard {guard} gave no verdict in time."
