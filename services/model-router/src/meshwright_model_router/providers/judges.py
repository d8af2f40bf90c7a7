"""Judges of texts: services over HTTP, and the operator's own code."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from meshwright_common.context import principal
from meshwright_common.errors import ServiceError, invalid
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.answer_settings import PythonGuardSettings
from meshwright_model_router.domain.errors import GuardUnavailable
from meshwright_model_router.domain.guards.guard import Action, HttpKind, PythonKind, Side
from meshwright_model_router.domain.guards.judging import ALLOWED, Judge, Verdict
from meshwright_model_router.domain.permits import Permits, Place
from meshwright_model_router.providers.endpoint import Endpoint, Timeouts
from meshwright_model_router.providers.factory import Factory, FactoryError
from meshwright_model_router.providers.http import HttpClient
from meshwright_model_router.providers.json_answer import post_json

MAX_CATEGORY_CHARACTERS: Final = 64
RETRY_SECONDS: Final = 1.0
_ACTIONS: Final = {"block": Action.BLOCK, "redact": Action.REDACT}

logger = get_logger(__name__)


class _Answer(msgspec.Struct):
    """What a judge answers. Fields that it does not know are passed over."""

    action: str
    category: str = ""
    text: str | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


class GuardJudges:
    """Makes the judges of guards. `permits`: where those of tenants may be, as it is now."""

    def __init__(
        self,
        client: HttpClient,
        permits: Callable[[], Permits],
        python: Mapping[str, PythonGuardSettings],
    ) -> None:
        self._client = client
        self._permits = permits
        self._python = python

    def http(self, guard: str, kind: HttpKind, *, operator_owned: bool) -> Judge:
        return _HttpJudge(self._client, guard, kind, None if operator_owned else self._permits)

    def python(self, guard: str, kind: PythonKind) -> Judge:
        settings = self._python.get(kind.name)
        if settings is None:
            known = ", ".join(sorted(self._python)) or "none"
            raise invalid("python", f"names {kind.name!r}; the configuration has: {known}")
        try:
            function = Factory(settings.function).resolve()
        except FactoryError as error:
            raise invalid("python", f"{settings.function} {error}") from None
        return _PythonJudge(guard, settings, function)


class _HttpJudge:
    """A service. Of a tenant's guard, the operator must allow its address at every call."""

    def __init__(
        self,
        client: HttpClient,
        guard: str,
        kind: HttpKind,
        permits: Callable[[], Permits] | None,
    ) -> None:
        self.window_characters = kind.window_characters
        self._client = client
        self._guard = guard
        self._kind = kind
        self._permits = permits

    async def judge(self, side: Side, model: str, text: str) -> Verdict:
        try:
            answer = await post_json(
                self._client,
                self._endpoint(),
                "",
                {"side": side.value, "model": model, "text": text},
                _decode,
                seconds_left=self._kind.timeout_seconds,
            )
            return _verdict(answer.action, answer.category, answer.text)
        except (ServiceError, ValueError) as error:
            return _without_verdict(self._guard, self._kind.fail_open, str(error))

    def _endpoint(self) -> Endpoint:
        public_only = False
        if self._permits is not None:
            permits = self._permits()
            permits.check(principal().tenant_id, self._kind.url, "")
            public_only = not permits.is_private(Place.of(self._kind.url))
        seconds = self._kind.timeout_seconds
        return Endpoint(
            deployment=f"guard {self._guard}",
            base_url=self._kind.url,
            timeouts=Timeouts(connect=seconds, first_byte=seconds, idle=seconds, total=seconds),
            public_only=public_only,
        )


class _PythonJudge:
    """The operator's code, in a thread unless it is a coroutine function."""

    def __init__(
        self, guard: str, settings: PythonGuardSettings, function: Callable[..., Any]
    ) -> None:
        self.window_characters = settings.window_characters
        self._guard = guard
        self._settings = settings
        self._function = function

    async def judge(self, side: Side, model: str, text: str) -> Verdict:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                return _verdict_of(await self._call(text, side.value, model))
        # house: broad-except: the operator's code may raise anything, and there is no verdict then
        except Exception as error:
            cause = type(error).__name__
            return _without_verdict(self._guard, self._settings.fail_open, cause)

    async def _call(self, *arguments: str) -> object:
        if inspect.iscoroutinefunction(self._function):
            found: object = await self._function(*arguments)
            return found
        return await asyncio.to_thread(self._function, *arguments)


def _verdict_of(found: object) -> Verdict:
    """Return what code of the operator's means. Raises: ValueError."""
    if found is None or found is False:
        return ALLOWED
    if isinstance(found, str):
        return _verdict("block", found, None)
    if isinstance(found, Mapping):
        return _verdict(
            str(found.get("action", "")), str(found.get("category", "")), found.get("text")
        )
    raise ValueError("it returned neither None, nor a category, nor a mapping")


def _verdict(action: str, category: str, text: object) -> Verdict:
    if action == "allow":
        return ALLOWED
    if action not in _ACTIONS:
        raise ValueError("its action is none of allow, block and redact")
    if text is not None and not isinstance(text, str):
        raise ValueError("its text is none")
    return Verdict(_ACTIONS[action], category[:MAX_CATEGORY_CHARACTERS], text)


def _without_verdict(guard: str, fail_open: bool, cause: str) -> Verdict:
    """Return what counts when there is no verdict. Raises: GuardUnavailable."""
    logger.warning("guard_without_verdict", guard=guard, passes=fail_open, cause=cause)
    if fail_open:
        return ALLOWED
    raise GuardUnavailable(guard=guard, retry_after_seconds=RETRY_SECONDS)
