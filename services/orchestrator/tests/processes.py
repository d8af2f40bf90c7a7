"""The orchestrator as a real process, to be killed and stopped; its peers answer over a socket."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from meshwright.orchestrator.v1.agent_registry_service_pb2_grpc import AgentRegistryServiceStub
from meshwright.orchestrator.v1.agent_service_pb2_grpc import AgentServiceStub
from meshwright.orchestrator.v1.workflow_service_pb2_grpc import WorkflowServiceStub
from meshwright_common.identity.keys import ensure_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.interceptors import server_interceptors
from meshwright_common.testing.encryption import encryption_environment
from meshwright_common.testing.patience import patient_environment
from services.orchestrator.tests.mesh import Mesh, Stubs

START_SECONDS = 60


@dataclass(frozen=True)
class Running:
    """A process and the way to it."""

    process: asyncio.subprocess.Process
    stubs: Stubs

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    def stand_still(self) -> None:
        """Stop it where it is."""
        self.process.send_signal(signal.SIGSTOP)

    @property
    def stands_still(self) -> bool:
        """Whether it was stopped, by us or by itself."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(") ")[2].startswith("T")

    def go_on(self) -> None:
        """Let it go on as if nothing had happened."""
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def peers_on_a_port(mesh: Mesh, keys: Path) -> AsyncIterator[str]:
    """Serve the mesh's peers on a port; give its address. The mesh uses the keys of the folder."""
    mesh.keys = ensure_keys(keys, ["orchestrator", "chat"])
    verifier = TokenVerifier(mesh.keys.trusted)
    server = grpc.aio.server(interceptors=server_interceptors("test", verifier))
    mesh.serve_peers(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def orchestrator(
    mesh: Mesh, keys: Path, peers: str, **settings: str
) -> AsyncIterator[Running]:
    """Run `python -m meshwright_orchestrator` on the mesh's database until the block is left."""
    port = _free_port()
    environment = {
        **os.environ,
        **patient_environment(),
        "MESHWRIGHT_DATABASE__URL": mesh.database.url,
        "MESHWRIGHT_IDENTITY__KEYS_DIR": str(keys),
        "MESHWRIGHT_RPC__LISTEN": f"127.0.0.1:{port}",
        "MESHWRIGHT_ORCHESTRATOR__TASK_LEASE_SECONDS": "2",
        "MESHWRIGHT_ORCHESTRATOR__LEASE_RENEW_SECONDS": "0.5",
        "MESHWRIGHT_ORCHESTRATOR__SWEEP_SECONDS": "60",
        "MESHWRIGHT_ORCHESTRATOR__POLL_SECONDS": "0.05",
        **encryption_environment(),
        **{
            f"MESHWRIGHT_PEERS__{peer}": peers
            for peer in ("RAG", "MODEL_ROUTER", "TOOL_EXEC", "SESSION")
        },
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meshwright_orchestrator", env=environment
    )
    try:
        async with AsyncExitStack() as stack:
            minter = TokenMinter("chat", mesh.keys.private_key("chat"))
            channels = Channels(minter, {"orchestrator": f"127.0.0.1:{port}"})
            await stack.enter_async_context(channels)
            channel = channels.open("orchestrator")
            async with asyncio.timeout(START_SECONDS):
                await _ready(channel, process)
            stubs = Stubs(
                AgentServiceStub(channel),
                AgentRegistryServiceStub(channel),
                WorkflowServiceStub(channel),
            )
            yield Running(process, stubs)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ready(channel: Any, process: asyncio.subprocess.Process) -> None:
    """Return when the process answers. Raises: ProcessEnded when it ended instead."""
    answers = asyncio.ensure_future(channel.channel_ready())
    ends = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({answers, ends}, return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ProcessEnded
    finally:
        answers.cancel()
        ends.cancel()


class ProcessEnded(Exception):
    """A process ended before it answered."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
