"""Guards and what they find, between protobuf and domain."""

from collections.abc import Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.model_router.v1 import guard_service_pb2 as pb
from meshwright_common.errors import invalid
from meshwright_model_router.domain.guards.guard import (
    DEFAULT_JUDGE_CHARACTERS,
    DEFAULT_JUDGE_SECONDS,
    DEFAULT_LONGEST_MATCH,
    Action,
    Guard,
    GuardKind,
    HttpKind,
    PiiKind,
    PythonKind,
    RegexKind,
    Side,
    WordsKind,
)
from meshwright_model_router.domain.guards.guard_store import GuardRecord

MAX_CHECKED_BYTES: Final = 64 * 1024

_ACTIONS: Final[Mapping[int, Action]] = {
    pb.GUARD_ACTION_BLOCK: Action.BLOCK,
    pb.GUARD_ACTION_REDACT: Action.REDACT,
    pb.GUARD_ACTION_REPORT: Action.REPORT,
}
_SIDES: Final[Mapping[int, frozenset[Side]]] = {
    pb.GUARD_SIDE_UNSPECIFIED: frozenset(Side),
    pb.GUARD_SIDE_INPUT: frozenset({Side.INPUT}),
    pb.GUARD_SIDE_OUTPUT: frozenset({Side.OUTPUT}),
}
_ACTION_VALUES: Final = {
    Action.BLOCK: pb.GUARD_ACTION_BLOCK,
    Action.REDACT: pb.GUARD_ACTION_REDACT,
    Action.REPORT: pb.GUARD_ACTION_REPORT,
}
_SIDE_VALUES: Final = {
    frozenset(Side): pb.GUARD_SIDE_UNSPECIFIED,
    frozenset({Side.INPUT}): pb.GUARD_SIDE_INPUT,
    frozenset({Side.OUTPUT}): pb.GUARD_SIDE_OUTPUT,
}


def guard_from(guard: pb.Guard) -> Guard:
    """Return a tenant's guard, its parts unchecked. Raises: InvalidArgument naming the field."""
    action = _ACTIONS.get(guard.action)
    if action is None:
        raise invalid("guard.action", "must be BLOCK, REDACT or REPORT")
    sides = _SIDES.get(guard.side)
    if sides is None:
        raise invalid("guard.side", "is not known")
    return Guard(
        name=guard.name,
        kind=_kind_from(guard),
        action=action,
        sides=sides,
        replacement=guard.replacement,
        models=tuple(guard.models),
        disabled=guard.disabled,
    )


def _kind_from(guard: pb.Guard) -> GuardKind:
    kind = guard.WhichOneof("kind")
    if kind == "regex":
        longest = guard.regex.longest_match or DEFAULT_LONGEST_MATCH
        return RegexKind(tuple(guard.regex.patterns), longest)
    if kind == "pii":
        return PiiKind(tuple(guard.pii.kinds))
    if kind == "words":
        return WordsKind(tuple(guard.words.phrases))
    if kind == "http":
        http = guard.http
        return HttpKind(
            http.url,
            http.timeout_milliseconds / 1000 or DEFAULT_JUDGE_SECONDS,
            http.fail_open,
            http.window_characters or DEFAULT_JUDGE_CHARACTERS,
        )
    if kind == "python":
        return PythonKind(guard.python)
    raise invalid("guard.kind", "must be set: regex, pii, words or http")


def record_message(record: GuardRecord) -> pb.Guard:
    """Return a tenant's guard as the wire shows it."""
    time = Timestamp()
    time.FromDatetime(record.update_time)
    message = guard_message(record.guard)
    message.etag = record.etag
    message.update_time.CopyFrom(time)
    return message


def guard_message(guard: Guard) -> pb.Guard:
    """Return a guard as the wire shows it, without etag and time."""
    message = pb.Guard(
        name=guard.name,
        side=_SIDE_VALUES[guard.sides],
        action=_ACTION_VALUES[guard.action],
        replacement=guard.replacement,
        models=guard.models,
        operator_owned=guard.operator_owned,
        disabled=guard.disabled,
    )
    kind = guard.kind
    if isinstance(kind, RegexKind):
        message.regex.patterns.extend(kind.patterns)
        message.regex.longest_match = kind.longest_match
    elif isinstance(kind, PiiKind):
        message.pii.SetInParent()
        message.pii.kinds.extend(kind.kinds)
    elif isinstance(kind, WordsKind):
        message.words.phrases.extend(kind.phrases)
    elif isinstance(kind, HttpKind):
        message.http.url = kind.url
        message.http.timeout_milliseconds = round(kind.timeout_seconds * 1000)
        message.http.fail_open = kind.fail_open
        message.http.window_characters = kind.window_characters
    else:
        message.python = kind.name
    return message


def checked_text(request: pb.CheckTextRequest) -> tuple[str, Side]:
    """Return the text to check and its side. Raises: InvalidArgument naming the field."""
    if len(request.text.encode("utf-8", "surrogatepass")) > MAX_CHECKED_BYTES:
        raise invalid("text", f"must be at most {MAX_CHECKED_BYTES} bytes")
    sides = _SIDES.get(request.side)
    if sides is None:
        raise invalid("side", "is not known")
    return request.text, Side.OUTPUT if sides == {Side.OUTPUT} else Side.INPUT
