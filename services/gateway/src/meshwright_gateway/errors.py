"""Refusals of the edge itself: about HTTP and the shape of bodies, before any service is asked."""

from collections.abc import Sequence
from typing import ClassVar

from meshwright_common.errors import (
    FieldViolation,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    Unavailable,
    Unimplemented,
)


class ClientGone(Exception):
    """The client closed the connection: nobody is left to answer."""


class EdgeRefusal(ServiceError):
    """An error with an HTTP status of its own. Mixed into a class of the error tree."""

    http_status: ClassVar[int]


class RouteNotFound(NotFound, EdgeRefusal):
    """Nothing is served at this path."""

    http_status = 404
    text = "nothing is served at {path}"


class MethodNotAllowed(Unimplemented, EdgeRefusal):
    """The path is served, with other methods."""

    http_status = 405
    text = "{path} does not take {method}"


class UpgradeRequired(InvalidArgument, EdgeRefusal):
    """The path is served to WebSockets only."""

    http_status = 426


class OriginRefused(PermissionDenied, EdgeRefusal):
    """A web page of an origin that is not on the list asks for a socket."""

    http_status = 403
    text = "pages of {origin} may not connect: see MESHWRIGHT_GATEWAY__CORS_ORIGINS"


class TooManyConversations(ResourceExhausted, EdgeRefusal):
    """A socket has as many conversations as it may."""

    http_status = 429
    text = "{conversations} conversations are open on this socket, and no more may be: end one"


class UnsupportedMediaType(InvalidArgument, EdgeRefusal):
    """The body comes in a form that the route does not read."""

    http_status = 415


class BodyTooLarge(ResourceExhausted, EdgeRefusal):
    """The body is over its limit."""

    http_status = 413
    reason = "TOO_LARGE"
    text = "the body is over the limit of {limit_bytes} bytes"


class DocumentTooLarge(InvalidArgument, EdgeRefusal):
    """The uploaded file is over its limit."""

    http_status = 413
    reason = "DOCUMENT_TOO_LARGE"
    text = "the document is over the limit of {limit_bytes} bytes"


class TooManyParts(ResourceExhausted, EdgeRefusal):
    """A multipart body has more parts than allowed."""

    http_status = 413
    reason = "TOO_LARGE"
    text = "the body has more than {limit_parts} parts"


class BodyTooSlow(InvalidArgument, EdgeRefusal):
    """The body did not arrive in time."""

    http_status = 408
    text = "the body did not arrive within {seconds} seconds"


class ShapeRefused(InvalidArgument, EdgeRefusal):
    """The request can be read but does not have the right shape. `field_violations` say where."""

    http_status = 422


class RateLimited(ResourceExhausted, EdgeRefusal):
    """Too many requests came. `headers` say what is left, and when that changes."""

    http_status = 429
    text = "too many requests: {requests} in {seconds} s is the limit here ({limit})"

    def __init__(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        retry_after_seconds: float,
        limit: str,
        requests: str,
        seconds: str = "",
    ) -> None:
        super().__init__(
            retry_after_seconds=retry_after_seconds, limit=limit, requests=requests, seconds=seconds
        )
        self.headers = headers


class TooManyAtOnce(RateLimited):
    """Too many requests of the user are under way."""

    text = "{requests} requests of yours are under way, and no more may be: wait for one to end"


class Overloaded(Unavailable, EdgeRefusal):
    """The gateway has more to do than it can."""

    http_status = 503
    text = "more requests come than can be served: try again in a moment"


class CursorUnknown(OutOfRange):
    """The Last-Event-ID is no position of this stream."""

    reason = "CURSOR_EXPIRED"
    text = "the event id {last_event_id} is no position of this stream: read it from its beginning"


def work_failed(reason: str, message: str, *, turn_id: str) -> ServiceError:
    """Return the error of a turn that was accepted and then failed for `reason`."""
    error = ServiceError(message, turn_id=turn_id)
    error.reason = reason
    return error


def model_not_found(model: str) -> ServiceError:
    """Return the error for a model name that no deployment serves."""
    error = NotFound(f"no model is named {model[:200]!r}", model=model[:200])
    error.reason = "MODEL_NOT_FOUND"
    return error


def misshapen(field: str, description: str) -> ShapeRefused:
    """Return the refusal of one field of a body."""
    return ShapeRefused(
        f"{field}: {description}", field_violations=(FieldViolation(field, description),)
    )
