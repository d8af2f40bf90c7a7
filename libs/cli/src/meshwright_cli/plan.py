"""What `up` was asked for, and what is prepared when the services start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import grpc.aio

from meshwright_cli.announce import announcing
from meshwright_cli.engines.data_folder import DataFolder
from meshwright_cli.engines.running import Engines
from meshwright_cli.environment import PlatformSettings
from meshwright_cli.first_start import OPERATOR
from meshwright_cli.logfile import LogFile
from meshwright_common.app import App, BackgroundTask
from meshwright_common.identity.keys import KeyRing
from meshwright_common.runner import Process

Tell: TypeAlias = Callable[[str], None]
Serving: TypeAlias = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the gRPC address of each service once all of them take calls."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `up` was asked for. `tell` prints a line of progress.

    `instances`: how many processes of each service but the gateway, when `split`.
    """

    folder: DataFolder
    host: str
    port: int
    split: bool
    log: LogFile
    tell: Tell
    instances: int = 1

    @property
    def address(self) -> str:
        """Host and port of the gateway."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Where the gateway will be."""
        return f"http://{self.address}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Engines run, the schema is there, keys are made. `variables` are for every service."""

    plan: Plan
    settings: PlatformSettings
    engines: Engines
    keys: KeyRing
    variables: Mapping[str, str]

    def around(self, apps: list[App], process: Process, serving: Serving) -> list[App]:
        """Return `apps` between the watch over the engines and the announcement."""
        announcement = announcing(
            self.plan.folder, self.plan.url, process.channels(OPERATOR), serving, self.plan.tell
        )
        return [_engine_watch(self.engines), *apps, announcement]


def _engine_watch(engines: Engines) -> App:
    def register(_server: grpc.aio.Server) -> None:
        """Serves nothing."""

    return App(
        name="engines",
        register=register,
        tasks=(BackgroundTask("engines", engines.supervise),),
    )
