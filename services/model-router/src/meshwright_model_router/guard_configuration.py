"""The operator's guards: of the settings, and of the file of models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from meshwright_common.errors import InvalidArgument
from meshwright_common.settings import SettingsError
from meshwright_model_router.adapters.guard_tables import GuardBook
from meshwright_model_router.answer_settings import GuardSettings, HttpGuardSettings
from meshwright_model_router.domain.guards.checking import check_guard
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

SETTING = "MESHWRIGHT_MODELS__GUARDS"


class OperatorGuards:
    """Reads the operator's guards and puts them into `book`: those of the settings come first."""

    def __init__(self, book: GuardBook, settings: Sequence[GuardSettings]) -> None:
        """Raises: SettingsError when a guard of the settings is wrong."""
        self._book = book
        self._settings = [operator_guard(one) for one in settings]
        try:
            for index, guard in enumerate(self._settings):
                check_guard(guard, f"{SETTING}[{index}].")
            book.prepare(self._settings)
        except InvalidArgument as error:
            raise SettingsError(f"{SETTING}: {error.message}") from None

    def take(self, guards: Sequence[Mapping[str, Any]]) -> Callable[[], None]:
        """Return what puts the file's guards into force. Raises: ValueError when one is wrong."""
        made = list(self._settings)
        for index, raw in enumerate(guards):
            path = f"guards[{index}]."
            try:
                made.append(operator_guard(GuardSettings.model_validate(raw)))
                check_guard(made[-1], path)
                self._book.prepare(made[-1:])
            except ValidationError as error:
                [first, *_] = error.errors(include_url=False, include_input=False)
                where = ".".join(map(str, first["loc"]))
                what = first["msg"].removeprefix("Value error, ")
                raise ValueError(f"{path}{where}: {what}") from None
            except InvalidArgument as error:
                raise ValueError(_placed(path, error)) from None
            if any(one.name == made[-1].name for one in made[:-1]):
                raise ValueError(f"{path}name: two guards are named {made[-1].name!r}")
        return self._book.prepare(made)


def _placed(path: str, error: InvalidArgument) -> str:
    return error.message if error.message.startswith("guards[") else path + error.message


def operator_guard(one: GuardSettings) -> Guard:
    """Return a guard of the configuration, unchecked."""
    return Guard(
        name=one.name,
        kind=_kind(one),
        action=Action(one.action),
        sides=frozenset(Side) if one.side == "both" else frozenset({Side(one.side)}),
        replacement=one.replacement,
        models=one.models,
        disabled=one.disabled,
        operator_owned=True,
    )


def _kind(one: GuardSettings) -> GuardKind:
    if one.regex is not None:
        return RegexKind(one.regex.patterns, one.regex.longest_match or DEFAULT_LONGEST_MATCH)
    if one.pii is not None:
        return PiiKind(one.pii.kinds)
    if one.words is not None:
        return WordsKind(one.words.phrases)
    if one.http is not None:
        return _http_kind(one.http)
    return PythonKind(one.python)


def _http_kind(http: HttpGuardSettings) -> HttpKind:
    return HttpKind(
        http.url,
        http.timeout_milliseconds / 1000 or DEFAULT_JUDGE_SECONDS,
        http.fail_open,
        http.window_characters or DEFAULT_JUDGE_CHARACTERS,
    )
