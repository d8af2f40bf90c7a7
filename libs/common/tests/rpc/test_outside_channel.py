"""Channels to programs that are none of ours: mutual TLS by a name of their own, and a token."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from meshwright.orchestrator.v1 import agent_service_pb2
from meshwright.orchestrator.v1.agent_service_pb2_grpc import (
    AgentServiceServicer,
    AgentServiceStub,
    add_AgentServiceServicer_to_server,
)
from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.errors import Unavailable
from meshwright_common.identity.certificates import write_certificates
from meshwright_common.identity.keys import ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter, TokenVerifier
from meshwright_common.ids import new_id
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.tls import TlsFiles
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import TlsSettings

CANCEL = agent_service_pb2.CancelTaskRequest(task_id="theirs")


class Program(AgentServiceServicer):
    """Notes who called, by certificate and by token."""

    def __init__(self) -> None:
        self.callers: list[tuple[str, str]] = []

    async def CancelTask(self, request: Any, context: Any) -> Any:
        name = context.auth_context()["x509_common_name"][0].decode()
        self.callers.append((name, dict(context.invocation_metadata())["authorization"]))
        return agent_service_pb2.CancelTaskResponse()


@pytest.mark.asyncio
@pytest.mark.parametrize(("presented", "is_reached"), [("remote-agent", True), ("rag", False)])
async def test_program_is_reached_if_its_certificate_has_the_name(
    tmp_path: Path, presented: str, is_reached: bool
) -> None:
    folder = tmp_path / "certs"
    names = ["orchestrator", "rag", "remote-agent"]
    write_certificates(folder, names, timedelta(days=1), shared_name="meshwright")
    credentials = grpc.ssl_server_credentials(
        [(_read(folder, f"{presented}.key"), _read(folder, f"{presented}.crt"))],
        _read(folder, "ca.crt"),
        require_client_auth=True,
    )
    program, server = Program(), grpc.aio.server()
    add_AgentServiceServicer_to_server(program, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    keys = ephemeral_keys(["orchestrator"])
    files = TlsFiles(
        TlsSettings(
            ca_file=folder / "ca.crt",
            certificate_file=folder / "{service}.crt",
            key_file=folder / "{service}.key",
        ),
        "orchestrator",
    )
    minter = TokenMinter("orchestrator", keys.private_key("orchestrator"))
    nobody = Principal(new_id(), "somebody", "user", frozenset())
    try:
        async with Channels(minter, transport=Transport(tls=files)) as channels:
            channel = channels.outside("remote-agent", f"ipv4:127.0.0.1:{port}", {})
            with bind(CallContext(principal=nobody)):
                stub = AgentServiceStub(channel)
                if is_reached:
                    await stub.CancelTask(CANCEL)
                else:
                    with pytest.raises(Unavailable):
                        await stub.CancelTask(CANCEL)
            await channel.close()
    finally:
        await server.stop(0)
    assert len(program.callers) == is_reached
    for name, token in program.callers:
        assert name == "orchestrator"
        assert TokenVerifier(keys.trusted).verify(token.removeprefix("Bearer ")) == nobody


def _read(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()
