"""Guards: messages to JSON bodies, and back."""

from typing import Final

from meshwright.model_router.v1 import generation_pb2
from meshwright.model_router.v1 import guard_service_pb2 as pb
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import guards as schemas
from meshwright_gateway.wire import values

_SIDES: Final[dict[schemas.Side, pb.GuardSide.ValueType]] = {
    "both": pb.GUARD_SIDE_UNSPECIFIED,
    "input": pb.GUARD_SIDE_INPUT,
    "output": pb.GUARD_SIDE_OUTPUT,
}
_ACTIONS: Final[dict[schemas.Action, pb.GuardAction.ValueType]] = {
    "block": pb.GUARD_ACTION_BLOCK,
    "redact": pb.GUARD_ACTION_REDACT,
    "report": pb.GUARD_ACTION_REPORT,
}
_SIDE_NAMES: Final = {value: name for name, value in _SIDES.items()}
_ACTION_NAMES: Final = {value: name for name, value in _ACTIONS.items()}


def guard_message(name: str, body: schemas.GuardSet) -> pb.Guard:
    """Return the guard of a body. Raises: InvalidArgument unless it is of one kind."""
    kinds = [one for one in ("regex", "pii", "words", "http") if getattr(body, one) is not None]
    if len(kinds) != 1:
        raise misshapen("body", "must have exactly one of regex, pii, words and http")
    message = pb.Guard(
        name=name,
        side=_SIDES[body.side],
        action=_ACTIONS[body.action],
        replacement=body.replacement,
        models=body.models,
        disabled=body.disabled,
        etag=body.etag,
    )
    if body.regex is not None:
        message.regex.CopyFrom(pb.RegexGuard(**body.regex.model_dump()))
    elif body.pii is not None:
        message.pii.CopyFrom(pb.PiiGuard(**body.pii.model_dump()))
    elif body.words is not None:
        message.words.CopyFrom(pb.WordGuard(**body.words.model_dump()))
    elif body.http is not None:
        message.http.CopyFrom(pb.HttpGuard(**body.http.model_dump()))
    return message


def check_request(body: schemas.TextCheck) -> pb.CheckTextRequest:
    """Return the request that tries a text."""
    return pb.CheckTextRequest(text=body.text, side=_SIDES[body.side], model=body.model)


def guard_view(message: pb.Guard) -> schemas.Guard:
    """Return a guard as JSON shows it."""
    kind = message.WhichOneof("kind")
    return schemas.Guard(
        name=message.name,
        side=_SIDE_NAMES[message.side],
        action=_ACTION_NAMES[message.action],
        replacement=message.replacement,
        models=list(message.models),
        disabled=message.disabled,
        operator_owned=message.operator_owned,
        regex=(
            schemas.Regex(
                patterns=list(message.regex.patterns), longest_match=message.regex.longest_match
            )
            if kind == "regex"
            else None
        ),
        pii=schemas.Pii(kinds=list(message.pii.kinds)) if kind == "pii" else None,
        words=schemas.Words(phrases=list(message.words.phrases)) if kind == "words" else None,
        http=_http_view(message.http) if kind == "http" else None,
        python=message.python if kind == "python" else None,
        etag=message.etag,
        update_time=values.time_from(message.update_time),
    )


def _http_view(http: pb.HttpGuard) -> schemas.Http:
    return schemas.Http(
        url=http.url,
        timeout_milliseconds=http.timeout_milliseconds,
        fail_open=http.fail_open,
        window_characters=http.window_characters,
    )


def checked_view(answer: pb.CheckTextResponse) -> schemas.CheckedText:
    """Return what guards would do, as JSON shows it."""
    return schemas.CheckedText(
        blocked=answer.blocked,
        text=answer.text,
        findings=[finding_view(one) for one in answer.findings],
    )


def finding_view(finding: generation_pb2.GuardFinding) -> schemas.Finding:
    """Return what a guard found, as JSON shows it."""
    return schemas.Finding(
        guard=finding.guard,
        category=finding.category,
        side=finding.side,
        action=finding.action,
        count=finding.count,
    )
