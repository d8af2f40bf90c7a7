"""PostgreSQL and Valkey on a data folder: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from meshwright_cli.engines.data_folder import DataFolder
from meshwright_common.settings import DatabaseSettings, ObjectSettings, RedisSettings
from meshwright_common.storage.bootstrap import DATABASE
from meshwright_common.storage.embedded.postgres import EmbeddedPostgres
from meshwright_common.storage.embedded.process import LOOPBACK, EngineFailed, EngineThread
from meshwright_common.storage.embedded.valkey import EmbeddedValkey
from meshwright_common.telemetry.logging import get_logger

LOOK_EVERY_SECONDS: Final = 0.2
MAX_RESTARTS: Final = 5
RESTART_WINDOW_SECONDS: Final = 60.0
"""An engine that dies more often than 5 times a minute does not get well by itself."""

Engine = Literal["postgres", "valkey"]
ENGINES: Final[tuple[Engine, ...]] = ("postgres", "valkey")

logger = get_logger(__name__)


@dataclass(slots=True)
class Engines:
    """The running engines of `folder`. Made by `run_engines`; addresses stay over restarts."""

    folder: DataFolder
    _postgres: EmbeddedPostgres
    _valkey: EmbeddedValkey
    _thread: EngineThread
    _wanted: frozenset[Engine]

    @property
    def superuser_url(self) -> str:
        """PostgreSQL's superuser, for `bootstrap` alone."""
        return self._postgres.url()

    @property
    def database(self) -> DatabaseSettings:
        """What services connect with; `{service}` stands for their name."""
        password = quote(self.folder.secrets.database, safe="")
        login = f"postgresql://meshwright_{{service}}:{password}@"
        port, socket_folder = self._postgres.port, self._postgres.socket_folder
        if socket_folder is None:
            return DatabaseSettings(url=f"{login}{LOOPBACK}:{port}/{DATABASE}")
        host = quote(str(socket_folder), safe="")
        return DatabaseSettings(url=f"{login}/{DATABASE}?host={host}&port={port}")

    @property
    def redis(self) -> RedisSettings:
        return RedisSettings(url=self._valkey.url)

    @property
    def objects(self) -> ObjectSettings:
        return ObjectSettings(url=self.folder.objects.as_uri())

    @property
    def pids(self) -> dict[str, int | None]:
        """The process of each engine."""
        return {"postgres": self._postgres.pid, "valkey": self._valkey.pid}

    def environment(self) -> dict[str, str]:
        """Return the settings as the variables that a service process reads."""
        variables = {
            "MESHWRIGHT_OBJECTS__URL": self.objects.url,
            "MESHWRIGHT_IDENTITY__KEYS_DIR": str(self.folder.keys),
        }
        if "postgres" in self._wanted:
            variables["MESHWRIGHT_DATABASE__URL"] = self.database.url
        if "valkey" in self._wanted:
            variables["MESHWRIGHT_REDIS__URL"] = self.redis.url
        return variables

    async def supervise(self) -> None:
        """Start an engine again whenever it ends, at the same address; run until cancelled.

        Raises: EngineFailed when it cannot be started or ends again and again.
        """
        restarts: deque[float] = deque(maxlen=MAX_RESTARTS)
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                if "postgres" in self._wanted and not self._postgres.running:
                    _count_restart(restarts, "postgres")
                    await self._thread.run(
                        self._postgres.start, port=self._postgres.port, evict=True
                    )
                if "valkey" in self._wanted and not self._valkey.running:
                    _count_restart(restarts, "valkey")
                    await self._thread.run(self._valkey.start, evict=True)
            except EngineFailed as error:
                if _too_many(restarts):
                    raise
                logger.warning("engine_not_started", error=str(error))


@contextlib.asynccontextmanager
async def run_engines(
    folder: DataFolder, wanted: Collection[Engine] = ENGINES
) -> AsyncIterator[Engines]:
    """Run the wanted engines inside the block. They die with this process, however it ends.

    Raises: EngineFailed, with the end of the engine's log.
    """
    thread = EngineThread()
    passwords = folder.secrets
    postgres = EmbeddedPostgres(
        folder.postgres, password=passwords.postgres, log=folder.logs / "postgres.log"
    )
    valkey = EmbeddedValkey(folder.valkey, password=passwords.redis, log=folder.logs / "valkey.log")
    try:
        # We own the folder, so an engine still on it was left behind by an owner that died.
        if "postgres" in wanted:
            await thread.run(postgres.start, evict=True)
        if "valkey" in wanted:
            await thread.run(valkey.start, evict=True)
        yield Engines(folder, postgres, valkey, thread, frozenset(wanted))
    finally:
        try:
            await thread.run(valkey.stop)
            await thread.run(postgres.stop)
        finally:
            thread.close()


def _count_restart(restarts: deque[float], engine: str) -> None:
    if _too_many(restarts):
        raise EngineFailed(f"{engine} ended {MAX_RESTARTS} times within a minute: see its log.")
    restarts.append(time.monotonic())
    logger.error("engine_ended", engine=engine, restarts=len(restarts))


def _too_many(restarts: deque[float]) -> bool:
    recent = [one for one in restarts if time.monotonic() - one < RESTART_WINDOW_SECONDS]
    return len(recent) == MAX_RESTARTS
