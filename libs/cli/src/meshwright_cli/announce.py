"""The last step of the start: a tenant and a key, the gateway answers, the endpoint is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aiohttp
import grpc.aio

from meshwright_cli.engines.data_folder import DataFolder
from meshwright_cli.exits import CommandError
from meshwright_cli.first_start import first_key
from meshwright_common.app import App, BackgroundTask
from meshwright_common.errors import ServiceError
from meshwright_common.rpc.channels import Channels

KEY_FILE: Final = "first-key.json"
READY_TIMEOUT_SECONDS: Final = 60.0
LOOK_EVERY_SECONDS: Final = 0.02


def announcing(
    folder: DataFolder,
    url: str,
    channels: Channels,
    serving: Callable[[], Awaitable[Mapping[str, str]]],
    tell: Callable[[str], None],
) -> App:
    """Return the App whose one task announces the platform and ends.

    `serving` returns the gRPC addresses once all services serve. When a step fails, `tell` has
    said why and the process ends with exit code 1.
    """

    def register(_server: grpc.aio.Server) -> None:
        """Serves nothing."""

    async def run() -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                addresses = await serving()
                api_key = await first_key(channels, folder.path / KEY_FILE)
                await _answers(f"{url}/health/ready")
                folder.write_endpoint(url, api_key=api_key, grpc=addresses)
        except (ServiceError, CommandError, OSError, TimeoutError) as error:
            tell(f"the platform did not get ready: {str(error) or 'the time is over'}")
            raise
        tell(f"ready {url} key={api_key}")

    return App(name="announce", register=register, tasks=(BackgroundTask("announce", run),))


async def _answers(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.ok:
                        return
            except aiohttp.ClientConnectionError:
                # It listens a moment after its process serves.
                pass
            await asyncio.sleep(LOOK_EVERY_SECONDS)
