"""ServiceError ↔ gRPC status, with `google.rpc` details in the trailing metadata."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from meshwright_common.errors import (
    CLASS_BY_CODE,
    DeadlineExceeded,
    FieldViolation,
    Internal,
    QuotaExceeded,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)

DOMAIN: Final = "meshwright"
DETAILS_KEY: Final = "grpc-status-details-bin"
INTERNAL_TEXT: Final = "internal error; the log has the details under this request id"

# Over 8 KiB of trailing metadata gRPC drops the call at random. The text counts twice (as
# grpc-message, percent-encoded, and inside the details), the details by 4/3 (base64).
_TEXT_BYTES: Final = 1200
_DETAIL_BYTES: Final = 2400
_VALUE_BYTES: Final = 400
_REQUEST_ID_CHARACTERS: Final = 128


class Status(NamedTuple):
    """Arguments of `context.abort`, in its order."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Received:
    """An error from the wire. `decided_by_peer`: our code there raised it, not the transport."""

    error: ServiceError
    decided_by_peer: bool


def to_status(error: ServiceError, *, request_id: str = "") -> Status:
    """Return the status that carries `error`: code, text, reason, metadata, field violations."""
    code = grpc.StatusCode[error.code]
    text = _cut(error.message, _TEXT_BYTES, _percent_encoded_bytes)
    rich = status_pb2.Status(code=code.value[0], message=text)
    _attach_contents(rich, error)
    if error.retry_after_seconds is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        _attach(rich, retry_info)
    if request_id:
        _attach(rich, error_details_pb2.RequestInfo(request_id=request_id[:_REQUEST_ID_CHARACTERS]))
    return Status(code, text, ((DETAILS_KEY, rich.SerializeToString()),))


def from_rpc_error(rpc_error: grpc.aio.AioRpcError) -> ServiceError:
    """Return the error a call ended with: the sender's own, or one made from the bare code."""
    return received(rpc_error).error


def received(rpc_error: grpc.aio.AioRpcError) -> Received:
    """Return the error a call ended with, and whether the peer's own code decided on it."""
    for key, value in rpc_error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            error = _from_details(rpc_error.code(), rpc_error.details() or "", value)
            if error is not None:
                return Received(error, decided_by_peer=True)
    return Received(_from_transport(rpc_error), decided_by_peer=False)


def _attach_contents(rich: status_pb2.Status, error: ServiceError) -> None:
    """Attach reason, metadata and violations, as many as fit; the first ones matter most."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    bad_request = error_details_pb2.BadRequest()
    left = _DETAIL_BYTES
    for key, value in error.metadata.items():
        cut = _cut(value, _VALUE_BYTES, _utf8_bytes)
        left -= _utf8_bytes(key) + _utf8_bytes(cut) + 8
        if left < 0:
            break
        info.metadata[key] = cut
    for violation in error.field_violations:
        field = _cut(violation.field, _VALUE_BYTES, _utf8_bytes)
        description = _cut(violation.description, _VALUE_BYTES, _utf8_bytes)
        left -= _utf8_bytes(field) + _utf8_bytes(description) + 8
        if left < 0:
            break
        bad_request.field_violations.add(field=field, description=description)
    _attach(rich, info)
    if bad_request.field_violations:
        _attach(rich, bad_request)
    if error.reason == QuotaExceeded.reason:
        _attach(rich, _quota_failure(error))


def _quota_failure(error: ServiceError) -> error_details_pb2.QuotaFailure:
    """Return what clients of other makers read: the metadata say the same."""
    failure = error_details_pb2.QuotaFailure()
    limit = error.metadata.get("limit", "")
    failure.violations.add(
        subject=f"tenant:{error.metadata.get('tenant_id', '')}",
        description=_cut(error.message, _VALUE_BYTES, _utf8_bytes),
        quota_id=error.metadata.get("quota", ""),
        quota_value=int(limit) if limit.isdecimal() else 0,
    )
    return failure


def _cut(text: str, limit: int, size: Callable[[str], int]) -> str:
    """Return the longest beginning of `text` of at most `limit` bytes, whole characters only."""
    # A lone surrogate, which JSON can smuggle in, would fail in the encoder.
    text = text[:limit].encode("utf-8", errors="replace").decode("utf-8")
    while size(text) > limit:
        text = text[: min(len(text) * limit // size(text) + 1, len(text) - 1)]
    return text


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", errors="replace"))


def _percent_encoded_bytes(text: str) -> int:
    return len(quote(text, safe=" !#$&'()*+,/:;=?@[]<>|{}^`\"\\", errors="replace"))


def _attach(rich: status_pb2.Status, detail: Message) -> None:
    rich.details.add().Pack(detail)


def _class_of(code: grpc.StatusCode) -> type[ServiceError]:
    return CLASS_BY_CODE.get(code.name, Internal)


def _from_details(code: grpc.StatusCode, text: str, raw: bytes) -> ServiceError | None:
    try:
        rich = status_pb2.Status.FromString(raw)
    except DecodeError:
        return None
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    retry_after_seconds: float | None = None
    for detail in rich.details:
        if detail.Unpack(retry_info):
            retry_after_seconds = retry_info.retry_delay.ToNanoseconds() / 1e9
        elif not detail.Unpack(info):
            detail.Unpack(bad_request)
    if info.domain != DOMAIN or not info.reason:
        return None
    error = _class_of(code)(
        text,
        field_violations=tuple(
            FieldViolation(violation.field, violation.description)
            for violation in bad_request.field_violations
        ),
        retry_after_seconds=retry_after_seconds,
    )
    error.reason = info.reason
    error.metadata.update(info.metadata)
    return error


def _from_transport(rpc_error: grpc.aio.AioRpcError) -> ServiceError:
    """Make an error whose text tells nothing about addresses: gRPC's own text names them."""
    code, text = rpc_error.code(), rpc_error.details() or ""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable("the service cannot be reached")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded("the call took longer than its deadline")
        case grpc.StatusCode.CANCELLED:
            # A caller that cancels gets no status. A server does this to calls that arrive in the
            # moment it stops (grpc/grpc #37239).
            return Unavailable("the service ended the call before it was served")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "message larger than max" in text:
            error = ResourceExhausted("the message is over the size limit of a call")
            error.reason = "TOO_LARGE"
            return error
        case _:
            return _class_of(code)()
