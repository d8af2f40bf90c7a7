"""Whether a host that a tenant names lies where everybody may go."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from meshwright_common import addresses
from meshwright_model_router.domain.routing_errors import EgressRefused

RESOLVE_SECONDS: Final = 3.0


async def judge_host(host: str, port: int) -> None:
    """Return when all addresses of a host are public.

    A look at the time of the change, for an answer that says why: each connection is judged again.
    Raises: EgressRefused, also for a host that has no address now.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        raise EgressRefused(f"{host} has no address.", host=host) from None
    for address in {str(entry[4][0]) for entry in found}:
        why = addresses.refusal(address)
        if why is None and addresses.is_own(address):
            why = "this machine"
        if why is not None:
            raise EgressRefused(f"The address of {host} is not public ({why}).", host=host)
