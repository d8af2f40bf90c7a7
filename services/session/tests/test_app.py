"""The service as the composition root builds it."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright_common.app import BackgroundTask
from meshwright_common.identity.keys import ephemeral_keys
from meshwright_common.identity.permissions import required_permissions
from meshwright_common.identity.signing import ensure_record_key
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.rpc.channels import Channels
from meshwright_common.settings import IdentitySettings, ObjectSettings, RedisSettings
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.encryption import encryption_settings
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.mesh import serving
from meshwright_common.testing.waiting import eventually
from meshwright_session.app import SERVICE_NAMES, build
from meshwright_session.first_tenant import first_tenant
from meshwright_session.settings import Settings

pytestmark = pytest.mark.asyncio


def no_channels() -> Channels:
    """Channels of a service that calls nobody."""
    return Channels(TokenMinter("session", ephemeral_keys(["session"]).private_key("session")))


async def test_built_service_is_ready_serves_and_does_its_background_work(
    database_settings: DatabaseSettingsFor, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    database = await database_settings("meshwright_session")
    ensure_record_key(tmp_path / "keys")
    settings = Settings(
        database=database,
        redis=redis_settings,
        encryption=encryption_settings(),
        identity=IdentitySettings(keys_dir=tmp_path / "keys"),
        objects=ObjectSettings(url=(tmp_path / "objects").as_uri()),
    )
    async with no_channels() as channels, build(settings, channels) as app:
        for check in app.checks:
            await check.probe()
        async with serving(app.register) as served, asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run(task)) for task in app.tasks]
            stub = DirectoryServiceStub(served.channels().open("session"))
            first = await first_tenant(stub, service="gateway")
            async with open_database(database, "session") as pool:

                async def recorded() -> bool:
                    async with unit_of_work(pool, first.tenant_id) as connection:
                        return bool(
                            await connection.fetchval(
                                "SELECT count(*) = 1 FROM audit_records WHERE tenant_id = $1",
                                first.tenant_id,
                            )
                        )

                await eventually(recorded)
            for task, running in zip(app.tasks, tasks, strict=True):
                if task.stop is not None:
                    task.stop()
                else:
                    running.cancel()
            for running in tasks:
                with suppress(asyncio.CancelledError):
                    await running


async def test_every_method_declares_a_permission() -> None:
    paths = required_permissions(SERVICE_NAMES)
    assert {path.split("/")[1] for path in paths} == set(SERVICE_NAMES)


async def _run(task: BackgroundTask) -> None:
    await task.run()
