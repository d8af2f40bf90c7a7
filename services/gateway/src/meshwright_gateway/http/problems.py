"""Errors as HTTP shows them: one table of statuses, two shapes (RFC 9457 and OpenAI's)."""

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

import orjson

from meshwright_common.errors import FieldViolation, ServiceError
from meshwright_gateway.errors import EdgeRefusal

Family = Literal["native", "openai"]
"""Which shape errors have: OpenAI's under /v1, problem+json everywhere else."""

Headers = list[tuple[bytes, bytes]]

PROBLEM_TYPE: Final = b"application/problem+json"
JSON_TYPE: Final = b"application/json"
MAX_SHOWN_ERRORS: Final = 50

_REASONS_BY_STATUS: Final[dict[int, str]] = {
    400: """
        INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE PROVIDER_REJECTED CONTEXT_LENGTH_EXCEEDED
        GUARD_BLOCKED
        """,
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED TENANT_SUSPENDED EGRESS_REFUSED MODEL_NOT_ALLOWED",
    404: """
        NOT_FOUND SESSION_NOT_FOUND API_KEY_NOT_FOUND USER_NOT_FOUND TENANT_NOT_FOUND
        TURN_NOT_FOUND TASK_NOT_FOUND INTERRUPT_NOT_FOUND AGENT_NOT_FOUND WORKFLOW_NOT_FOUND
        WORKFLOW_RUN_NOT_FOUND SCHEDULE_NOT_FOUND AGENT_INSTANCE_NOT_FOUND
        KNOWLEDGE_BASE_NOT_FOUND DOCUMENT_NOT_FOUND WEBHOOK_NOT_FOUND WEBHOOK_DELIVERY_NOT_FOUND
        TOOL_NOT_FOUND TOOL_CALL_NOT_FOUND MCP_SERVER_NOT_FOUND SKILL_NOT_FOUND MODEL_NOT_FOUND
        DEPLOYMENT_NOT_FOUND
        """,
    409: """
        ALREADY_EXISTS CONFLICT CONTEXT_VERSION_CONFLICT TURN_IN_PROGRESS TASK_STATE LEASE_LOST
        TASK_CANCELLED IDEMPOTENCY_KEY_IN_FLIGHT LAST_OWNER APPROVAL_REFUSED OUTCOME_UNKNOWN
        """,
    410: "CURSOR_EXPIRED",
    413: "TOO_LARGE DOCUMENT_TOO_LARGE DOCUMENT_LIMIT",
    415: "DOCUMENT_TYPE_UNSUPPORTED",
    422: """
        IDEMPOTENCY_KEY_REUSED STEP_LIMIT BUDGET_EXCEEDED DOCUMENT_EMPTY DOCUMENT_BROKEN
        DOCUMENT_ENCRYPTED DOCUMENT_ENCODING TOOL_ARGUMENTS_INVALID TOOL_FAILED SKILL_INVALID
        """,
    429: "RESOURCE_EXHAUSTED PROVIDER_RATE_LIMIT QUOTA_EXCEEDED TURN_QUEUE_FULL",
    499: "CANCELLED",
    500: "INTERNAL DATA_LOSS",
    501: "NOT_YET_SERVED UNIMPLEMENTED",
    502: "OUTPUT_INVALID PROVIDER_CREDENTIALS PROVIDER_PROTOCOL PROVIDER_TRUNCATED",
    503: """
        UNAVAILABLE TURN_INTERRUPTED SEARCH_UNAVAILABLE MCP_SERVER_UNAVAILABLE PROVIDER_UNAVAILABLE
        GUARD_UNAVAILABLE LIMITS_UNAVAILABLE NO_DEPLOYMENT
        """,
    504: "DEADLINE_EXCEEDED TASK_EXPIRED TOOL_TIMEOUT PROVIDER_TIMEOUT TURN_QUEUE_TIMEOUT",
}
STATUS_BY_REASON: Final = {
    reason: status for status, names in _REASONS_BY_STATUS.items() for reason in names.split()
}
"""The HTTP status of every reason of `meshwright.errors.v1.ErrorReason`."""

_STATUS_BY_CODE: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""For reasons that are newer than this gateway."""

INSUFFICIENT_QUOTA: Final = "insufficient_quota"
"""What OpenAI's clients call a limit that a pause does not mend."""
_OPENAI_TYPES: Final = {
    401: "invalid_request_error",
    403: "permission_error",
    429: "rate_limit_exceeded",
    499: "server_error",
}
_OPENAI_CODES: Final = {
    "UNAUTHENTICATED": "invalid_api_key",
    "RESOURCE_EXHAUSTED": "rate_limit_exceeded",
    "PROVIDER_RATE_LIMIT": "rate_limit_exceeded",
    "QUOTA_EXCEEDED": INSUFFICIENT_QUOTA,
    "GUARD_BLOCKED": "content_filter",
}
_INDEX: Final = re.compile(r"\.(\d+)")
_BRACKETS: Final = re.compile(r"\[(\d+)\]")
_WRAPPER: Final = re.compile(r"^(?:session|spec|user|api_key|knowledge_base|header|page|guard)\.")
"""Messages of the services' requests whose fields are the fields of a body here."""
_RENAMED: Final = {"arguments_json": "arguments"}
_REPEATABLE: Final = frozenset({429, 503, 504})


@dataclass(frozen=True, slots=True)
class Problem:
    """An error, ready to be written in either shape."""

    status: int
    code: str
    detail: str
    request_id: str
    errors: tuple[FieldViolation, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    retry_after_seconds: float | None = None

    @classmethod
    def of(cls, error: ServiceError, request_id: str) -> "Problem":
        """Return the problem that `error` is for a client."""
        detail = error.message
        for violation in error.field_violations[:1]:
            if detail.startswith(violation.field):
                detail = _field_here(violation.field) + detail[len(violation.field) :]
        return cls(
            status=status_of(error),
            code=error.reason,
            detail=detail,
            request_id=request_id,
            errors=tuple(
                FieldViolation(_field_here(violation.field), violation.description)
                for violation in error.field_violations[:MAX_SHOWN_ERRORS]
            ),
            metadata=tuple(error.metadata.items()),
            retry_after_seconds=error.retry_after_seconds,
        )

    def headers(self, family: Family) -> Headers:
        """Return the headers that belong to the problem, its content type first."""
        headers: Headers = [(b"content-type", JSON_TYPE if family == "openai" else PROBLEM_TYPE)]
        if self.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="meshwright"'))
        if self.retry_after_seconds is not None:
            # Upwards: whoever comes back a moment too early is refused once more.
            seconds = max(1, math.ceil(self.retry_after_seconds))
            headers.append((b"retry-after", str(seconds).encode()))
        if family == "openai":
            if self.retry_after_seconds is not None:
                milliseconds = str(math.ceil(self.retry_after_seconds * 1000)).encode()
                headers.append((b"retry-after-ms", milliseconds))
            repeatable = self.status in _REPEATABLE and self.code != "QUOTA_EXCEEDED"
            headers.append((b"x-should-retry", b"true" if repeatable else b"false"))
        return headers

    def status_for(self, family: Family) -> int:
        """Return the HTTP status: OpenAI's API knows 400 for every wrong body."""
        return 400 if family == "openai" and self.status == 422 else self.status

    def body(self, family: Family, instance: str) -> bytes:
        """Return the body; `instance` is the path of the request."""
        content = self.openai() if family == "openai" else self.native(instance)
        return orjson.dumps(content)

    def native(self, instance: str) -> dict[str, object]:
        """Return the problem by RFC 9457."""
        retry_after = self.retry_after_seconds
        return {
            "type": f"urn:meshwright:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": self.request_id,
            "errors": [
                {"field": error.field, "message": error.description} for error in self.errors
            ],
            "retry_after_ms": None if retry_after is None else math.ceil(retry_after * 1000),
            "metadata": dict(self.metadata),
        }

    def openai(self) -> dict[str, object]:
        """Return the problem as OpenAI's clients read it."""
        fallback = "server_error" if self.status >= 500 else "invalid_request_error"
        code = _OPENAI_CODES.get(self.code, self.code.lower())
        kind = _OPENAI_TYPES.get(self.status, fallback)
        return {
            "error": {
                "message": self.detail,
                "type": code if code == INSUFFICIENT_QUOTA else kind,
                "param": _bracketed(self.errors[0].field) if self.errors else None,
                "code": code,
            }
        }


def _field_here(path: str) -> str:
    """Return the path of a field as the caller knows it: "spec.a[0]" of a service is "a.0"."""
    return _BRACKETS.sub(r".\1", _RENAMED.get(path) or _WRAPPER.sub("", path))


def _bracketed(path: str) -> str:
    """Return "messages.0.content" as OpenAI writes it: messages[0].content."""
    return _INDEX.sub(r"[\1]", path)


def status_of(error: ServiceError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, EdgeRefusal):
        return error.http_status
    return status_of_reason(error.reason, code=error.code)


def status_of_reason(reason: str, *, code: str = "") -> int:
    """Return the HTTP status of a reason; one that is not known counts as its gRPC code says."""
    return STATUS_BY_REASON.get(reason) or _STATUS_BY_CODE.get(code, 500)
