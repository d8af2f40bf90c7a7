"""Processes of the session service over one database and one Redis, to be killed and called."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceStub
from meshwright.session.v1.session_service_pb2_grpc import SessionServiceStub
from meshwright_common.errors import Unavailable
from meshwright_common.identity.keys import KeyRing, ensure_keys
from meshwright_common.identity.signing import ensure_record_key
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.rpc.channels import Channels
from meshwright_common.settings import DatabaseSettings, RedisSettings
from meshwright_common.storage.embedded.process import LOOPBACK, free_port
from meshwright_common.testing.encryption import encryption_environment
from meshwright_common.testing.waiting import eventually
from tests.platform_process import clean_environment

if TYPE_CHECKING:
    from meshwright.session.v1.directory_service_pb2_grpc import DirectoryServiceAsyncStub
    from meshwright.session.v1.session_service_pb2_grpc import SessionServiceAsyncStub

COMMAND: Final = (sys.executable, "-m", "meshwright_session")
START_SECONDS: Final = 60.0
CALLER: Final = "gateway"


@dataclass(slots=True)
class Replica:
    """One process, and channels to it that die with it."""

    environment: Mapping[str, str]
    keys: KeyRing
    log: Path
    process: Process | None = None
    deaths: int = 0
    _opened: list[Channels] = field(default_factory=list)
    _sessions: SessionServiceAsyncStub | None = field(default=None, repr=False)

    @property
    def sessions(self) -> SessionServiceAsyncStub:
        """Its SessionService. Raises: Unavailable while it is dead."""
        if self._sessions is None:
            raise Unavailable("the replica is dead")
        return self._sessions

    @property
    def directory(self) -> DirectoryServiceAsyncStub:
        """Its DirectoryService."""
        return DirectoryServiceStub(self._opened[-1].open("session"))

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
        # The breaker of older channels has learned that nobody is there.
        tokens = TokenMinter(CALLER, self.keys.private_key(CALLER))
        channels = Channels(tokens, {"session": f"dns:///{address}"})
        sessions = SessionServiceStub(channels.open("session"))
        await eventually(lambda: self._serves(address), timeout_seconds=START_SECONDS)
        self._opened.append(channels)
        self._sessions = sessions

    async def _serves(self, address: str) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log.read_text()[-3000:]
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*address.split(":"))
            writer.close()
            return True
        return False

    async def kill(self) -> None:
        """End it by SIGKILL, in the middle of whatever it does."""
        self._sessions = None
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
            self.deaths += 1

    async def close(self) -> None:
        """End it for good."""
        await self.kill()
        for channels in self._opened:
            await channels.close()


@contextlib.asynccontextmanager
async def running_replicas(
    folder: Path,
    database: DatabaseSettings,
    redis: RedisSettings,
    *,
    count: int,
    environment: Mapping[str, str],
) -> AsyncIterator[list[Replica]]:
    """Run `count` replicas until left."""
    keys = ensure_keys(folder / "keys", ("session", CALLER))
    ensure_record_key(folder / "keys")
    everywhere = {
        **clean_environment(),
        **encryption_environment(),
        "MESHWRIGHT_DATABASE__URL": database.url,
        "MESHWRIGHT_REDIS__URL": redis.url,
        "MESHWRIGHT_OBJECTS__URL": (folder / "objects").as_uri(),
        "MESHWRIGHT_IDENTITY__KEYS_DIR": str(folder / "keys"),
        **environment,
    }
    replicas = [
        Replica(everywhere, keys, folder / f"replica-{number}.log") for number in range(count)
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for replica in replicas:
                group.create_task(replica.start())
        yield replicas
    finally:
        for replica in replicas:
            await replica.close()
