"""The error tree that every layer raises and every hop carries.

One class per canonical gRPC code. A service subclasses the class of the code in its
`domain/errors.py` and gives it a `reason` of `meshwright.errors.v1.ErrorReason` (without the
`ERROR_REASON_` prefix). What comes from the wire is always the class of the code, with the
sender's reason on the instance, in every arrangement: catch the class, then look at `reason`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request: its path, and what is wrong with it."""

    field: str
    description: str


class ServiceError(Exception):
    """An error a caller may see: safe text, a stable reason, everything dynamic in `metadata`.

    `code` is the canonical gRPC code name. `text` is the message used when none is given; it may
    name metadata keys in braces. `retry_after_seconds` says when the same call may succeed.
    """

    code: ClassVar[str] = "UNKNOWN"
    reason: str = "INTERNAL"
    text: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
        **metadata: str,
    ) -> None:
        self.message = message or self._default_message(metadata)
        self.metadata: dict[str, str] = metadata
        self.field_violations = field_violations
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)

    def _default_message(self, metadata: Mapping[str, str]) -> str:
        if self.text:
            return self.text.format_map(metadata)
        return self.reason.lower().replace("_", " ")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reason={self.reason!r}, message={self.message!r})"


class InvalidArgument(ServiceError):
    """The request is wrong whatever the state of the system."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"


class NotFound(ServiceError):
    """The thing does not exist for this tenant."""

    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class AlreadyExists(ServiceError):
    """The thing to create is there already."""

    code = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class FailedPrecondition(ServiceError):
    """The state has to change before this call can succeed."""

    code = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class Aborted(ServiceError):
    """Somebody else changed it meanwhile: read again, then repeat."""

    code = "ABORTED"
    reason = "CONFLICT"


class PermissionDenied(ServiceError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class Unauthenticated(ServiceError):
    """The caller is not known: no credential, or one that does not verify."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class ResourceExhausted(ServiceError):
    """A limit or a quota is used up."""

    code = "RESOURCE_EXHAUSTED"
    reason = "RESOURCE_EXHAUSTED"


class QuotaExceeded(ResourceExhausted):
    """The tenant used up what its plan, or an agreement, gives it.

    Its metadata are `quota`, `limit`, `used`, `plan` and `tenant_id`.
    """

    reason = "QUOTA_EXCEEDED"
    text = "The tenant has used {used} of {limit} {quota} of its plan {plan}."


class Unavailable(ServiceError):
    """A dependency is away: the same call may succeed after a pause."""

    code = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class DeadlineExceeded(ServiceError):
    """The time for the call is over. Whether it took effect is not known."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Unimplemented(ServiceError):
    """This version does not offer the method or option."""

    code = "UNIMPLEMENTED"
    reason = "UNIMPLEMENTED"


class Internal(ServiceError):
    """A defect of ours. The text says nothing; the log says all."""

    code = "INTERNAL"
    reason = "INTERNAL"


class OutOfRange(ServiceError):
    """The position asked for no longer, or not yet, exists."""

    code = "OUT_OF_RANGE"
    reason = "OUT_OF_RANGE"


class Cancelled(ServiceError):
    """The caller or an operator cancelled the work."""

    code = "CANCELLED"
    reason = "CANCELLED"


class DataLoss(ServiceError):
    """Stored data failed its check."""

    code = "DATA_LOSS"
    reason = "DATA_LOSS"


CLASS_BY_CODE: Final[Mapping[str, type[ServiceError]]] = {
    error.code: error
    for error in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        PermissionDenied,
        Unauthenticated,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Unimplemented,
        Internal,
        OutOfRange,
        Cancelled,
        DataLoss,
    )
}
"""The class of each canonical code but OK and UNKNOWN."""


def invalid(field: str, description: str) -> InvalidArgument:
    """Return the error for one wrong field: `raise invalid("top_k", "must be 1 to 100")`."""
    return InvalidArgument(
        f"{field}: {description}", field_violations=(FieldViolation(field, description),)
    )
