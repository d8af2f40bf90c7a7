"""One process per service on this machine, reached over the loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from meshwright_cli.all_in_one import package_of
from meshwright_cli.environment import PlatformSettings, applied, parent_variables, split_variables
from meshwright_cli.exits import CommandError
from meshwright_cli.first_start import OPERATOR
from meshwright_cli.members import Member
from meshwright_cli.plan import Prepared
from meshwright_cli.supervisor import Supervisor
from meshwright_common.app import App, BackgroundTask
from meshwright_common.runner import Process, serve_apps
from meshwright_common.settings import SERVICE_NAMES, load
from meshwright_common.storage.embedded.process import LOOPBACK

GRACE_SECONDS: Final = 150.0
"""How long the members may take to drain, one after the other, before they are killed."""


def choose_members() -> tuple[Member, ...]:
    """Return all services with free ports on the loopback, in the order of dependence."""
    # All ports are held at once, so that none is chosen twice.
    sockets = [socket.socket() for _ in SERVICE_NAMES]
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        ports = [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
    return tuple(
        Member(service, port, package_of(service))
        for service, port in zip(SERVICE_NAMES, ports, strict=True)
    )


async def serve(prepared: Prepared) -> int:
    """Run every service as a process of its own until a signal or a failure.

    Returns the exit code. Raises: AddressError, StartRefused.
    """
    members = choose_members()
    environments = {
        member.service: {**os.environ, **prepared.variables, **split_variables(members, member)}
        for member in members
    }
    supervisor = Supervisor(members, environments, prepared.plan.log)

    async def serving() -> Mapping[str, str]:
        await supervisor.wait_serving()
        return {one.service: one.address for one in members if one.service != "gateway"}

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

    return App(
        name="members",
        register=register,
        tasks=(BackgroundTask("members", run),),
        drain=supervisor.stop,
    )


def _patient(settings: PlatformSettings) -> PlatformSettings:
    """Return the settings with a grace that lets all members drain, one after the other."""
    lifecycle = settings.lifecycle.model_copy(update={"grace_seconds": GRACE_SECONDS})
    return settings.model_copy(update={"lifecycle": lifecycle})
