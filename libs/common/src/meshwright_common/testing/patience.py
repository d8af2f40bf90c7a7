"""Time limits for tests that are not about them: a busy machine may stand still for seconds.

What a test proves must not depend on how long it waited for a connection. The fixtures and the
platforms that tests start have these limits; a test that proves how soon a caller is refused takes
those of production, by `prompt`.
"""

from __future__ import annotations

import json
from typing import Final, TypeVar

from meshwright_common.rpc.methods import EVERY_METHOD
from meshwright_common.settings import DatabaseSettings, RedisSettings, variable_name

_DATABASE: Final = {
    "connect_timeout_seconds": 20.0,
    "acquire_timeout_seconds": 20.0,
    "statement_timeout_seconds": 20.0,
    "lock_timeout_seconds": 10.0,
}
_REDIS: Final = {"timeout_seconds": 10.0}
PATIENT_DEADLINES: Final = {EVERY_METHOD: 20.0}
"""Of calls between services."""

S = TypeVar("S", DatabaseSettings, RedisSettings)


def patient_database(url: str) -> DatabaseSettings:
    """Return the settings of a database that is waited for."""
    return DatabaseSettings(url=url).model_copy(update=_DATABASE)


def patient_redis(url: str) -> RedisSettings:
    """Return the settings of a Redis that is waited for."""
    return RedisSettings(url=url).model_copy(update=_REDIS)


def patient_environment() -> dict[str, str]:
    """Return the same as variables, for the processes of a platform, and deadlines of calls."""
    sections = {"database": _DATABASE, "redis": _REDIS}
    variables = {
        variable_name((section, name)): str(seconds)
        for section, limits in sections.items()
        for name, seconds in limits.items()
    }
    return variables | {variable_name(("rpc", "deadlines")): json.dumps(PATIENT_DEADLINES)}


def prompt(settings: S) -> S:
    """Return the same place with the limits of production."""
    return type(settings)(url=settings.url)
