"""What `meshwright doctor` looks at. Each check says what it found, and what to do if it is bad."""

from __future__ import annotations

import importlib
import os
import platform as machine
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import grpc.aio

from meshwright_cli.all_in_one import package_of, settings_type_of
from meshwright_cli.endpoint import Endpoint
from meshwright_cli.engines.data_folder import DataFolderError, own
from meshwright_cli.engines.running import run_engines
from meshwright_cli.engines.schema import prepare_database
from meshwright_cli.health import is_serving, own_transport
from meshwright_common.app import Check
from meshwright_common.errors import ServiceError
from meshwright_common.settings import SERVICE_NAMES, SettingsError, load
from meshwright_common.storage.embedded.process import EngineFailed
from meshwright_common.storage.objects import ObjectStoreUnavailable, open_objects
from meshwright_model_router.settings import OFFLINE_MODEL
from meshwright_model_router.settings import Settings as ModelRouterSettings

LEAST_FREE_BYTES: Final = 1024**3
LEAST_MEMORY_BYTES: Final = 2 * 1024**3
TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `advice` is empty when all is well."""

    subject: str
    text: str
    advice: str = ""

    @property
    def good(self) -> bool:
        """Whether there is nothing to do."""
        return not self.advice


def check_machine(data: Path) -> list[Finding]:
    """Look at the interpreter, the memory and the disk below the data folder."""
    version = ".".join(map(str, sys.version_info[:3]))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    existing = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return [
        Finding(
            "machine",
            f"Python {version}, {machine.system()} {machine.machine()}, {os.cpu_count()} cores, "
            f"{memory / 1024**3:.1f} GB of memory",
            "" if memory >= LEAST_MEMORY_BYTES else "2 GB of memory are needed, 4 are comfortable",
        ),
        Finding(
            "disk",
            f"{free / 1024**3:.1f} GB free at {existing}",
            ""
            if free >= LEAST_FREE_BYTES
            else "less than 1 GB: free some, or put the data elsewhere with --data",
        ),
    ]


def check_settings() -> list[Finding]:
    """Read every service's settings."""
    try:
        for service in SERVICE_NAMES:
            load(settings_type_of(service))
    except SettingsError as error:
        advice = "mend the variable or the file; `meshwright config show` prints what is read"
        return [Finding("settings", line, advice) for line in str(error).splitlines()]
    return [Finding("settings", "valid")]


async def check_engines() -> list[Finding]:
    """Make and start both engines, roles and tables in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="meshwright-doctor-") as scratch:
        try:
            with own(Path(scratch) / "data") as folder:
                async with run_engines(folder) as engines:
                    await prepare_database(
                        engines.superuser_url,
                        engines.database,
                        password=folder.secrets.database,
                    )
        except (EngineFailed, DataFolderError, ServiceError, OSError) as error:
            advice = "run `make setup`; on a read-only or full /tmp set TMPDIR to another folder"
            return [Finding("engines", str(error), advice)]
    return [Finding("engines", "PostgreSQL and Valkey start here, the schema fits")]


async def check_objects() -> list[Finding]:
    """Look into the bucket, if the settings name one."""
    try:
        objects = load(settings_type_of("rag")).objects
    except SettingsError:
        return []  # said by check_settings
    if not objects.url.startswith("s3:"):
        return []
    try:
        async with open_objects(objects) as store:
            await store.exists("doctor")
    except SettingsError as error:
        return [Finding("objects", str(error), "see the end of the line")]
    except ObjectStoreUnavailable as error:
        cause = error.metadata["cause"]
        return [
            Finding("objects", cause, "see whether MESHWRIGHT_OBJECTS__ENDPOINT can be reached")
        ]
    return [Finding("objects", "the bucket can be read")]


async def check_platform(endpoint: Endpoint) -> list[Finding]:
    """Ask every service of a running platform, and its gateway, whether they take calls."""
    findings = [await _gateway(endpoint.url)]
    transport = own_transport()
    for service, address in endpoint.grpc.items():
        async with transport.open_channel(service, address) as channel:
            try:
                serving = await is_serving(channel, timeout_seconds=TIMEOUT_SECONDS)
                text, advice = ("serves", "") if serving else ("does not serve", _SEE_LOG)
            except grpc.aio.AioRpcError as error:
                text, advice = f"{address}: {error.code().name}", _SEE_LOG
        findings.append(Finding(service, text, advice))
    return findings


_SEE_LOG: Final = "see DATA/logs/platform.log; `meshwright down` and `up` start it anew"


async def _gateway(url: str) -> Finding:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/health/ready") as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        return Finding("gateway", f"{url}: {str(error) or 'no answer in time'}", _SEE_LOG)
    if status != HTTPStatus.OK:
        return Finding("gateway", f"{url} answers {status}", _SEE_LOG)
    return Finding("gateway", f"ready at {url}")


async def check_model() -> list[Finding]:
    """Ask every configured provider for its models, with the key it was given."""
    try:
        settings = load(ModelRouterSettings)
        default = settings.models.default_model()
        text = f"the default is {default!r}"
        if settings.models.file is not None:
            text = f"{settings.models.file} is good"
        elif default == OFFLINE_MODEL:
            text += (
                ", built in: it quotes passages and calls tools, and does not think; for a real "
                "one set MESHWRIGHT_MODELS__BASE_URL, …__MODEL and …__API_KEY"
            )
        async with _provider_checks(settings) as checks:
            providers = [await _provider(check) for check in checks]
    except SettingsError:
        return []  # said by check_settings
    return [Finding("model", text), *providers]


def _provider_checks(
    settings: ModelRouterSettings,
) -> AbstractAsyncContextManager[tuple[Check, ...]]:
    # Its import is that of a whole service: only the doctor pays for it.
    service = importlib.import_module(f"{package_of(settings.service)}.app")
    checks: AbstractAsyncContextManager[tuple[Check, ...]] = service.provider_checks(settings)
    return checks


async def _provider(check: Check) -> Finding:
    try:
        await check.probe()
    except ServiceError as error:
        return Finding(check.name, error.message, "mend what it names, or start the provider")
    return Finding(check.name, "answers")


def all_good(findings: Sequence[Finding]) -> bool:
    """Return whether there is nothing to do."""
    return all(finding.good for finding in findings)
