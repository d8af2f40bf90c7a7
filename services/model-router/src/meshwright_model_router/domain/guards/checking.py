"""The limits of a guard's parts, whoever wrote it."""

import re
from typing import Final
from urllib.parse import urlsplit

from meshwright_common.errors import invalid
from meshwright_model_router.domain.guards.guard import (
    Guard,
    HttpKind,
    PiiKind,
    RegexKind,
    WordsKind,
)
from meshwright_model_router.domain.guards.pii_kinds import PII_PATTERNS

MAX_GUARDS: Final = 50
"""Of one tenant."""
MAX_REPLACEMENT_CHARACTERS: Final = 64
MAX_MODELS: Final = 64
MAX_PATTERNS: Final = 64
MAX_PATTERN_CHARACTERS: Final = 512
MAX_MATCH_CHARACTERS: Final = 512
MAX_PHRASES: Final = 1000
MAX_PHRASE_CHARACTERS: Final = 128
JUDGE_SECONDS: Final = (0.05, 5.0)
JUDGE_CHARACTERS: Final = (64, 4096)
MAX_URL_CHARACTERS: Final = 2048

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_MODEL: Final = re.compile(r"[A-Za-z0-9._:/@+*-]{1,128}")
# Inside of JSON, such as the arguments of a tool call, these would end or change the text.
_REPLACEMENT: Final = re.compile(r'[^"\\\x00-\x1f\x7f]*')


def check_name(name: str, field: str = "name") -> str:
    """Return a guard's name. Raises: InvalidArgument."""
    if not _NAME.fullmatch(name):
        raise invalid(field, "must be 1 to 64 of a-z 0-9 _ -")
    return name


def check_guard(guard: Guard, path: str = "") -> None:
    """Check everything of a guard but that its patterns can be used.

    `path` comes before the names of fields in errors. Raises: InvalidArgument.
    """
    check_name(guard.name, f"{path}name")
    if len(guard.replacement) > MAX_REPLACEMENT_CHARACTERS:
        raise invalid(
            f"{path}replacement", f"must be at most {MAX_REPLACEMENT_CHARACTERS} characters"
        )
    if not _REPLACEMENT.fullmatch(guard.replacement):
        raise invalid(f"{path}replacement", 'must hold no ", no \\ and no control character')
    if len(guard.models) > MAX_MODELS:
        raise invalid(f"{path}models", f"must be at most {MAX_MODELS}")
    for index, model in enumerate(guard.models):
        if not _MODEL.fullmatch(model):
            raise invalid(f"{path}models[{index}]", "must be a name of a model, * for any part")
    _check_kind(guard, path)


def _check_kind(guard: Guard, path: str) -> None:
    kind = guard.kind
    if isinstance(kind, RegexKind):
        _check_texts(f"{path}regex.patterns", kind.patterns, MAX_PATTERNS, MAX_PATTERN_CHARACTERS)
        _check_range(f"{path}regex.longest_match", kind.longest_match, 1, MAX_MATCH_CHARACTERS)
    elif isinstance(kind, PiiKind):
        for index, one in enumerate(kind.kinds):
            if one not in PII_PATTERNS:
                known = ", ".join(PII_PATTERNS)
                raise invalid(f"{path}pii.kinds[{index}]", f"must be one of {known}")
    elif isinstance(kind, WordsKind):
        _check_texts(f"{path}words.phrases", kind.phrases, MAX_PHRASES, MAX_PHRASE_CHARACTERS)
    elif isinstance(kind, HttpKind):
        _check_url(f"{path}http.url", kind.url)
        _check_range(f"{path}http.timeout_milliseconds", kind.timeout_seconds, *JUDGE_SECONDS)
        _check_range(f"{path}http.window_characters", kind.window_characters, *JUDGE_CHARACTERS)
    elif not guard.operator_owned:
        raise invalid(f"{path}python", "is for the operator's configuration alone")


def _check_texts(field: str, texts: tuple[str, ...], most: int, characters: int) -> None:
    if not 1 <= len(texts) <= most:
        raise invalid(field, f"must be 1 to {most}")
    for index, text in enumerate(texts):
        if not 1 <= len(text) <= characters:
            raise invalid(f"{field}[{index}]", f"must be 1 to {characters} characters")


def _check_range(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        if field.endswith("_milliseconds"):
            least, most = least * 1000, most * 1000
        raise invalid(field, f"must be {least:g} to {most:g}")


def _check_url(field: str, url: str) -> None:
    wrong = invalid(field, "must be an absolute URL of http or https")
    if len(url) > MAX_URL_CHARACTERS or not url.isprintable() or " " in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise wrong
    if parts.username or parts.password or parts.query or parts.fragment:
        raise invalid(field, "must hold no user, no password, no ? and no #")
