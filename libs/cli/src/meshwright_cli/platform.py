"""The platform on one data folder: engines, schema, keys, then the services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from meshwright_cli import all_in_one, split
from meshwright_cli.engines.running import Engine, run_engines
from meshwright_cli.engines.schema import migrate_all, prepare_database
from meshwright_cli.engines.sealing import refuse_other_master_keys, seal_older_content
from meshwright_cli.environment import (
    PlatformSettings,
    encryption_settings,
    engine_variables,
    gateway_variables,
    keys_folder,
    lifecycle_variables,
    wanted_engines,
)
from meshwright_cli.first_start import OPERATOR
from meshwright_cli.plan import Plan, Prepared
from meshwright_common.identity.keys import ensure_keys
from meshwright_common.identity.signing import ensure_record_key
from meshwright_common.settings import SERVICE_NAMES, load

_NAMES: Final[Mapping[Engine, str]] = {"postgres": "PostgreSQL 18", "valkey": "Valkey 9"}


def check_settings() -> PlatformSettings:
    """Read every service's settings before anything is started. Raises: SettingsError."""
    for service in SERVICE_NAMES:
        load(all_in_one.settings_type_of(service))
    return load(PlatformSettings)


async def run_platform(plan: Plan, settings: PlatformSettings) -> int:
    """Run the platform until a signal or a failure; return the exit code.

    Raises: EngineFailed, MigrationRefused, StorageUnavailable, KeyFileError, OSError, AddressError.
    """
    # Importing the services takes longer than starting the engines: both at once.
    here = () if plan.split else SERVICE_NAMES
    importing = asyncio.get_running_loop().run_in_executor(None, all_in_one.import_services, here)
    watch = _Stopwatch()
    wanted = wanted_engines(settings)
    async with run_engines(plan.folder, wanted) as engines:
        plan.tell(f"engines   {', '.join(map(_NAMES.__getitem__, wanted)) or 'none here'} {watch}")
        if "postgres" in wanted:
            applied = await prepare_database(
                engines.superuser_url, engines.database, password=plan.folder.secrets.database
            )
        else:
            applied = await migrate_all(settings.database)
        database = engines.database if "postgres" in wanted else settings.database
        encryption = encryption_settings(plan.folder, settings)
        await refuse_other_master_keys(database, encryption)
        await seal_older_content(database, encryption)
        count = sum(len(names) for names in applied.values())
        plan.tell(f"schema    {f'{count} migrations applied' if count else 'up to date'} {watch}")
        ensure_record_key(keys_folder(plan.folder, settings))
        prepared = Prepared(
            plan=plan,
            settings=settings,
            engines=engines,
            keys=ensure_keys(keys_folder(plan.folder, settings), (*SERVICE_NAMES, OPERATOR)),
            variables={
                **engine_variables(engines, settings),
                **lifecycle_variables(settings),
                **gateway_variables(plan.host, plan.port),
            },
        )
        await importing
        serve = split.serve if plan.split else all_in_one.serve
        return await serve(prepared)


class _Stopwatch:
    """Says the seconds since it was made or last asked."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __str__(self) -> str:
        before, self._began = self._began, time.monotonic()
        return f"({self._began - before:.1f} s)"
