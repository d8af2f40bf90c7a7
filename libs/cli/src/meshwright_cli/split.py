"""One process per service on this machine, reached over the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from meshwright_cli.all_in_one import package_of
from meshwright_cli.environment import PlatformSettings, applied, parent_variables, split_variables
from meshwright_cli.exits import CommandError, refused
from meshwright_cli.first_start import OPERATOR
from meshwright_cli.health import own_transport
from meshwright_cli.members import Member
from meshwright_cli.plan import Prepared
from meshwright_cli.supervisor import Supervisor
from meshwright_common.app import App, BackgroundTask
from meshwright_common.runner import Process, serve_apps
from meshwright_common.settings import SERVICE_NAMES, load
from meshwright_common.storage.embedded.process import LOOPBACK

ROLL_SIGNAL: Final = signal.SIGUSR1
"""Asks for a rolling restart. Not SIGHUP: a terminal that closes sends that."""
GRACE_SECONDS: Final = 150.0
"""How long the members may take to drain, one after the other, before they are killed."""
LAST_PORT: Final = 65535
CHOSEN_PORTS: Final = range(10_000, 32_000)
"""Below those that Linux gives to connections (`net.ipv4.ip_local_port_range`)."""


def choose_members(instances: int = 1, metrics_listen: str = "") -> tuple[Member, ...]:
    """Return all services with free ports on the loopback, in the order of dependence.

    There are `instances` of each but the gateway, which has the one address that clients know.
    Each tells its metrics at a port of its own: those after that of `metrics_listen`, in the same
    order, or free ones.
    """
    wanted = [
        (service, number)
        for service in SERVICE_NAMES
        for number in range(1, 2 if service == "gateway" else instances + 1)
    ]
    ports = _free_ports(2 * len(wanted))
    metrics = _metrics_addresses(metrics_listen, ports[len(wanted) :])
    return tuple(
        Member(service, port, package_of(service), number, metrics=address)
        for (service, number), port, address in zip(wanted, ports, metrics, strict=False)
    )


def _free_ports(count: int) -> list[int]:
    """Return so many ports that nobody has, and nobody is given before the members listen there.

    The system gives none of these to connections or to whoever asks for any port. Platforms that
    start at the same time look from different places on, by their process ids.
    """
    start = os.getpid() * count
    ports: list[int] = []
    for offset in range(len(CHOSEN_PORTS)):
        port = CHOSEN_PORTS[(start + offset) % len(CHOSEN_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise refused(f"--split finds no {count} free ports from 10000 to 31999 on {LOOPBACK}")


def _metrics_addresses(listen: str, free_ports: Sequence[int]) -> list[str]:
    """Return where each member tells its metrics. Raises: CommandError: there are too few ports."""
    if not listen:
        return [f"{LOOPBACK}:{port}" for port in free_ports]
    host, _, first = listen.rpartition(":")
    if int(first) + len(free_ports) > LAST_PORT:
        raise refused(
            f"MESHWRIGHT_TELEMETRY__METRICS_LISTEN: behind port {first} there is no room for the "
            f"{len(free_ports)} processes of --split"
        )
    # The first one is this process's own.
    return [f"{host}:{int(first) + number}" for number in range(1, len(free_ports) + 1)]


async def serve(prepared: Prepared) -> int:
    """Run every service as a process of its own until a signal or a failure.

    Returns the exit code. Raises: AddressError, StartRefused.
    """
    metrics_listen = prepared.settings.telemetry.metrics_listen
    members = choose_members(prepared.plan.instances, metrics_listen)
    prepared.plan.folder.write_metrics_targets([(one.service, one.metrics) for one in members])
    environments = {
        member: {
            **os.environ,
            **prepared.variables,
            **split_variables(members, member, prepared.settings),
        }
        for member in members
    }
    supervisor = Supervisor(members, environments, prepared.plan.log, own_transport())

    async def serving() -> Mapping[str, str]:
        await supervisor.wait_serving()
        return {
            one.service: one.address
            for one in members
            if one.service != "gateway" and one.number == 1
        }

    with applied({**prepared.variables, **parent_variables(members)}):
        settings = load(PlatformSettings)

    @asynccontextmanager
    async def open_apps(process: Process) -> AsyncIterator[Sequence[App]]:
        yield prepared.around([_members_app(supervisor, prepared.plan.tell)], process, serving)

    return await serve_apps(open_apps, _patient(settings), name=OPERATOR, keys=prepared.keys)


def _members_app(supervisor: Supervisor, tell: Callable[[str], None]) -> App:
    def register(_server: grpc.aio.Server) -> None:
        """Nothing is served here: the members serve."""

    async def run() -> None:
        try:
            await supervisor.run()
        except CommandError as error:
            tell(str(error))
            raise

    async def roll_when_asked() -> None:
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(ROLL_SIGNAL, asked.set)
        while True:
            await asked.wait()
            asked.clear()
            await supervisor.roll()

    return App(
        name="members",
        register=register,
        tasks=(
            BackgroundTask("members", run),
            BackgroundTask("rolling-restart", roll_when_asked),
        ),
        drain=supervisor.stop,
    )


def _patient(settings: PlatformSettings) -> PlatformSettings:
    """Return the settings with a grace that lets all members drain, one after the other."""
    lifecycle = settings.lifecycle.model_copy(update={"grace_seconds": GRACE_SECONDS})
    return settings.model_copy(update={"lifecycle": lifecycle})
