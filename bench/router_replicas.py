"""Processes of the model router over one database and one Redis, to be killed and called."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.processes import ProcessError
from meshwright.model_router.v1.budget_service_pb2_grpc import BudgetServiceStub
from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceStub
from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceStub
from meshwright_common.errors import Unavailable
from meshwright_common.identity.keys import KeyRing, ensure_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import PREFIX, DatabaseSettings, RedisSettings
from meshwright_common.storage.embedded.process import LOOPBACK, free_port
from meshwright_common.testing.encryption import encryption_environment
from meshwright_common.testing.mesh import serving
from meshwright_common.testing.quotas import QuotaDirectory
from meshwright_common.testing.waiting import eventually

if TYPE_CHECKING:
    from meshwright.model_router.v1.budget_service_pb2_grpc import BudgetServiceAsyncStub
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from meshwright.model_router.v1.routing_service_pb2_grpc import RoutingServiceAsyncStub

COMMAND: Final = (sys.executable, "-m", "meshwright_model_router")
_MODELS: Final = """
deployments:
  - name: sim
    model: sim-*
    provider_model: "*"
    provider: openai
    base_url: {url}
    continuous_usage: true
    prices: {{input_micro_usd: 1000000, output_micro_usd: 2000000}}
policies:
  - name: patient
    cool_down: {{consecutive_failures: 100, error_rate: 1}}
"""
START_SECONDS: Final = 60.0
CALLER: Final = "gateway"


@dataclass(slots=True)
class RouterReplica:
    """One process, and channels to it that die with it."""

    environment: Mapping[str, str]
    keys: KeyRing
    log: Path
    process: Process | None = None
    _opened: list[Channels] = field(default_factory=list)
    _channels: Channels | None = None

    @property
    def models(self) -> ModelServiceAsyncStub:
        """Its ModelService. Raises: Unavailable while it is dead."""
        return ModelServiceStub(self._open_channels().open("model-router"))

    @property
    def budgets(self) -> BudgetServiceAsyncStub:
        """Its BudgetService. Raises: Unavailable while it is dead."""
        return BudgetServiceStub(self._open_channels().open("model-router"))

    @property
    def routing(self) -> RoutingServiceAsyncStub:
        """Its RoutingService. Raises: Unavailable while it is dead."""
        return RoutingServiceStub(self._open_channels().open("model-router"))

    @property
    def is_alive(self) -> bool:
        """Whether it takes calls."""
        return self._channels is not None

    def _open_channels(self) -> Channels:
        if self._channels is None:
            raise Unavailable("the replica is dead")
        return self._channels

    async def start(self) -> None:
        """Start it; return when it takes calls."""
        address = f"{LOOPBACK}:{free_port()}"
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environment, "MESHWRIGHT_RPC__LISTEN": address},
            )
        tokens = TokenMinter(CALLER, self.keys.private_key(CALLER))
        channels = Channels(
            tokens, {"model-router": f"dns:///{address}"}, transport=Transport(link=True)
        )
        self._opened.append(channels)
        await eventually(lambda: self._serves(address), timeout_seconds=START_SECONDS)
        self._channels = channels

    async def _serves(self, address: str) -> bool:
        if self.process is None or self.process.returncode is not None:
            raise ProcessError(f"the router ended: {self.log.read_text()[-3000:]}")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*address.split(":"))
            writer.close()
            return True
        return False

    async def kill(self) -> None:
        """End it by SIGKILL, in the middle of whatever it does."""
        self._channels = None
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def close(self) -> None:
        """End it for good."""
        await self.kill()
        for channels in self._opened:
            await channels.close()


@dataclass(slots=True)
class Routers:
    """Replicas, and the directory that tells them the limits."""

    replicas: list[RouterReplica]
    directory: QuotaDirectory

    def living(self) -> list[RouterReplica]:
        """Return those that take calls."""
        return [one for one in self.replicas if one.is_alive]


@contextlib.asynccontextmanager
async def running_routers(
    folder: Path,
    database: DatabaseSettings,
    redis: RedisSettings,
    provider_url: str,
    *,
    count: int,
    environment: Mapping[str, str],
) -> AsyncIterator[Routers]:
    """Run `count` replicas with the simulated provider as `sim-*` until left."""
    keys = ensure_keys(folder / "keys", (*("session", "model-router"), CALLER))
    # Failures are what is tested here: the deployment is not given a rest.
    (folder / "models.yaml").write_text(_MODELS.format(url=provider_url))

    directory = QuotaDirectory()
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            serving(directory.register, substrate="grpc", keys=keys)
        )
        everywhere = {
            **{name: text for name, text in os.environ.items() if not name.startswith(PREFIX)},
            **encryption_environment(),
            "MESHWRIGHT_DATABASE__URL": database.url,
            "MESHWRIGHT_REDIS__URL": redis.url,
            "MESHWRIGHT_IDENTITY__KEYS_DIR": str(folder / "keys"),
            "MESHWRIGHT_PEERS__SESSION": f"dns:///{served.address}",
            "MESHWRIGHT_MODELS__FILE": str(folder / "models.yaml"),
            "MESHWRIGHT_LIMITS__REPLICAS": str(count),
            **environment,
        }
        replicas = [
            RouterReplica(everywhere, keys, folder / f"router-{number}.log")
            for number in range(count)
        ]
        for replica in replicas:
            stack.push_async_callback(replica.close)
        async with asyncio.TaskGroup() as group:
            for replica in replicas:
                group.create_task(replica.start())
        yield Routers(replicas, directory)
