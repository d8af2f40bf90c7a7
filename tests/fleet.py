"""Processes of `meshwright serve` that find each other in Consul, on engines of their own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc.aio

from meshwright_cli.engines.data_folder import own
from meshwright_cli.engines.running import run_engines
from meshwright_cli.engines.schema import prepare_database
from meshwright_cli.first_start import OPERATOR, first_key
from meshwright_cli.health import is_serving
from meshwright_cli.supervisor import EAGER
from meshwright_common.identity.keys import KeyRing, ensure_keys
from meshwright_common.identity.signing import ensure_record_key
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import SERVICE_NAMES, ServiceName
from meshwright_common.storage.embedded.process import LOOPBACK, free_port
from meshwright_common.testing.waiting import eventually
from tests.platform_process import COMMAND, clean_environment

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


@dataclass(slots=True)
class Instance:
    """A running process of one service. Its HTTP port is the gateway's."""

    service: ServiceName
    number: int
    process: Process
    port: int
    http_port: int = 0

    @property
    def address(self) -> str:
        """Where its gRPC port is."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Where a gateway answers."""
        return f"http://{LOOPBACK}:{self.http_port}"


class Fleet:
    """Instances of services by (service, number)."""

    def __init__(self, folder: Path, environment: Mapping[str, str], keys: KeyRing) -> None:
        self._folder = folder
        self._environment = environment
        self._keys = keys
        self.instances: dict[tuple[ServiceName, int], Instance] = {}

    async def start(self, service: ServiceName, number: int, *, http_port: int = 0) -> Instance:
        """Start an instance, without waiting for it."""
        port = free_port()
        own_variables = {"MESHWRIGHT_RPC__LISTEN": f"{LOOPBACK}:{port}"}
        if service == "gateway":
            http_port = http_port or free_port()
            own_variables["MESHWRIGHT_GATEWAY__PORT"] = str(http_port)
        with (self._folder / f"{service}-{number}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                "serve",
                service,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment, **own_variables},
            )
        instance = Instance(service, number, process, port, http_port)
        self.instances[service, number] = instance
        return instance

    async def serving(self, instance: Instance) -> None:
        """Return when an instance takes calls. Raises: TimeoutError, or AssertionError: it died."""

        async def serves() -> bool:
            assert instance.process.returncode is None, self.log_of(instance)[-3000:]
            try:
                return await is_serving(channel, timeout_seconds=2)
            except grpc.aio.AioRpcError:
                return False

        async with Transport().open_channel(instance.service, instance.address, EAGER) as channel:
            await eventually(serves, timeout_seconds=START_SECONDS)

    async def stop(self, instance: Instance) -> None:
        """Ask an instance to drain and end. Raises: AssertionError when it fails to."""
        instance.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(instance.process.wait(), STOP_SECONDS)
        assert code == 0, self.log_of(instance)[-2000:]

    async def restart(self, instance: Instance) -> None:
        """Let an instance drain and end while its successor starts; return when that serves."""
        if instance.service == "gateway":
            # The one port that clients know.
            await self.stop(instance)
            successor = await self.start("gateway", instance.number, http_port=instance.http_port)
        else:
            successor = await self.start(instance.service, instance.number)
            await self.stop(instance)
        await self.serving(successor)

    async def api_key(self) -> str:
        """Return the key of the first tenant's owner."""
        addresses = ",".join(
            one.address for one in self.instances.values() if one.service == "session"
        )
        tokens = TokenMinter(OPERATOR, self._keys.private_key(OPERATOR))
        async with Channels(tokens, {"session": f"static:///{addresses}"}) as channels:
            return await first_key(channels, self._folder / "first-key.json")

    def log_of(self, instance: Instance) -> str:
        """Return what an instance, and those before it, wrote."""
        return (self._folder / f"{instance.service}-{instance.number}.log").read_text()

    async def kill(self) -> None:
        """End all that still runs."""
        for instance in self.instances.values():
            if instance.process.returncode is None:
                instance.process.kill()
            await instance.process.wait()


@contextlib.asynccontextmanager
async def running_fleet(
    folder: Path, environment: Mapping[str, str], *, instances: int = 2
) -> AsyncIterator[Fleet]:
    """Run engines and `instances` of every service until left; all of them serve.

    `environment` names the registry. Processes end by SIGKILL: what they do by SIGTERM is for the
    test to say.
    """
    with own(folder) as data:
        async with run_engines(data) as engines:
            await prepare_database(
                engines.superuser_url, engines.database, password=data.secrets.database
            )
            keys = ensure_keys(data.keys, (*SERVICE_NAMES, OPERATOR))
            ensure_record_key(data.keys)
            fleet = Fleet(
                folder,
                {
                    **clean_environment(),
                    **engines.environment(),
                    "MESHWRIGHT_ENCRYPTION__MASTER_KEYS": data.secrets.master_keys,
                    "MESHWRIGHT_REGISTRY__PREFIX": f"test-{new_id()[-12:]}-",
                    **environment,
                },
                keys,
            )
            try:
                await _start_all(fleet, instances)
                yield fleet
            finally:
                await fleet.kill()


async def _start_all(fleet: Fleet, instances: int) -> None:
    for number in range(1, instances + 1):
        started = [await fleet.start(service, number) for service in SERVICE_NAMES]
        async with asyncio.TaskGroup() as group:
            for instance in started:
                group.create_task(fleet.serving(instance))
