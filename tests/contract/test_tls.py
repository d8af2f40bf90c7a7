"""Mutual TLS between services: who gets in, who is believed, and how certificates change."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from cryptography import x509

from meshwright.rag.v1 import document_pb2, knowledge_service_pb2_grpc
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright_common.identity.certificates import Authority, new_authority, write_certificates
from meshwright_common.rpc.limits import SERVER_OPTIONS
from meshwright_common.rpc.tls import TlsFiles
from meshwright_common.rpc.transport import Transport
from meshwright_common.settings import SettingsError, TlsSettings
from meshwright_common.testing.waiting import eventually
from tests.platform_process import run_command, running_platform

MONTH = timedelta(days=30)
GET = pb.GetDocumentRequest()
SPAWNING = Path(__file__).with_name("spawning_process.py")


class Rag(knowledge_service_pb2_grpc.KnowledgeServiceServicer):
    """Answers with how its caller came in."""

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> Any:
        caller = context.auth_context().get("x509_common_name", [b""])[0].decode()
        return pb.GetDocumentResponse(document=document_pb2.Document(name=caller))


@dataclass(slots=True)
class Served:
    """A server over TLS, and the folder whose files it uses."""

    port: int
    folder: Path
    files: TlsFiles

    @property
    def target(self) -> str:
        return f"ipv4:127.0.0.1:{self.port}"

    async def serial(self) -> int:
        """Return the serial number of the certificate that a new connection is shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(shown).serial_number


def settings(folder: Path, ca: str = "ca") -> TlsSettings:
    return TlsSettings(
        ca_file=folder / f"{ca}.crt",
        certificate_file=folder / "{service}.crt",
        key_file=folder / "{service}.key",
        reload_seconds=0.05,
    )


def write(folder: Path, name: str, certificate: bytes, key: bytes) -> None:
    (folder / f"{name}.key").write_bytes(key)
    (folder / f"{name}.crt").write_bytes(certificate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Certificates of rag and session, and of both at once."""
    made = tmp_path / "certs"
    write_certificates(made, ["rag", "session"], MONTH, shared_name="meshwright")
    return made


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    files = TlsFiles(settings(folder), "rag")
    server = grpc.aio.server(options=SERVER_OPTIONS)
    knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server(Rag(), server)
    port = server.add_secure_port("127.0.0.1:0", files.server_credentials())
    await server.start()
    watching = asyncio.create_task(files.watch())
    try:
        yield Served(port, folder, files)
    finally:
        watching.cancel()
        await server.stop(0)


async def call(transport: Transport, served: Served, peer: str = "rag") -> str:
    """Call as a peer; return who the server says we are. Raises: AioRpcError."""
    async with transport.connect(peer, served.target) as channel:
        stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(channel)
        answer: pb.GetDocumentResponse = await stub.GetDocument(GET, timeout=5)
        return answer.document.name


async def refused(transport: Transport, served: Served, peer: str = "rag") -> bool:
    try:
        await call(transport, served, peer)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


# --- who gets in ----------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.promise("TLS-01")
async def test_services_of_one_authority_reach_each_other(folder: Path) -> None:
    async with serving(folder) as served:
        for name in ("session", "rag"):
            assert name == await call(Transport(tls=TlsFiles(settings(folder), name)), served)
        # The command, or a process of several services.
        shared = Transport(tls=TlsFiles(settings(folder), "operator"))
        assert "meshwright" == await call(shared, served)


@pytest.mark.asyncio
@pytest.mark.promise("TLS-01")
async def test_a_caller_without_tls_is_refused(folder: Path) -> None:
    async with serving(folder) as served:
        assert await refused(Transport(), served)


@pytest.mark.asyncio
@pytest.mark.promise("TLS-01")
async def test_a_caller_without_a_certificate_is_refused(folder: Path) -> None:
    credentials = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
    options = (("grpc.ssl_target_name_override", "rag"),)
    async with (
        serving(folder) as served,
        grpc.aio.secure_channel(served.target, credentials, options=options) as channel,
    ):
        stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GetDocument(GET, timeout=5)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.asyncio
@pytest.mark.promise("TLS-01")
@pytest.mark.parametrize("which", ["other-authority", "expired", "not-yet-valid"])
async def test_a_caller_with_a_wrong_certificate_is_refused(folder: Path, which: str) -> None:
    transport = Transport(tls=TlsFiles(settings(folder), "session"))
    authority = authority_of(folder)
    now = datetime.now(UTC)
    begin = {"expired": now - 2 * MONTH, "not-yet-valid": now + MONTH}.get(which)
    if which == "other-authority":
        authority = new_authority(MONTH)
    certificate, key = authority.issue(["session"], MONTH, begin=begin)
    async with serving(folder) as served:
        assert "session" == await call(transport, served)
        # Past the check of our own files, as somebody else's client would be.
        files = transport_files(transport)
        files.current = type(files.current)(files.current.ca, certificate, key)
        assert await refused(transport, served)


@pytest.mark.asyncio
@pytest.mark.promise("TLS-01")
async def test_a_server_of_another_authority_is_not_believed(folder: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    write_certificates(foreign, ["rag"], MONTH, shared_name="meshwright")
    # It lets us in: only we can refuse.
    (foreign / "ca.crt").write_bytes((folder / "ca.crt").read_bytes())
    async with serving(foreign) as served:
        assert await refused(Transport(tls=TlsFiles(settings(folder), "session")), served)


def authority_of(folder: Path) -> Authority:
    """Return the authority of a folder, making its certificates anew."""
    return write_certificates(
        folder, ["rag", "session"], MONTH, shared_name="meshwright", overwrite=True
    )


def transport_files(transport: Transport) -> TlsFiles:
    files = transport._tls
    assert files is not None
    return files


# --- who is believed ------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.promise("TLS-02")
async def test_a_certificate_of_rag_does_not_pass_for_session(folder: Path) -> None:
    """Also on the loopback, and also behind a list of addresses."""
    transport = Transport(tls=TlsFiles(settings(folder), "session"))
    async with serving(folder) as served:
        assert "session" == await call(transport, served, "rag")
        assert await refused(transport, served, "session")
        async with transport.connect("session", f"static:///127.0.0.1:{served.port}") as channel:
            stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.GetDocument(GET, timeout=5)


@pytest.mark.asyncio
@pytest.mark.promise("TLS-02")
async def test_connections_of_ours_are_tls_1_3(folder: Path) -> None:
    """gRPC offers no way to refuse 1.2; between our processes 1.3 is what is agreed on."""
    async with serving(folder) as served:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(folder / "ca.crt")
        context.load_cert_chain(folder / "session.crt", folder / "session.key")
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context)
        assert "TLSv1.3" == writer.get_extra_info("ssl_object").version()
        writer.close()


# --- how certificates change ----------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.promise("TLS-03")
async def test_certificates_are_rotated_under_load_without_a_failed_call(folder: Path) -> None:
    files = TlsFiles(settings(folder), "session")
    transport = Transport(tls=files)
    watching = asyncio.create_task(files.watch())
    stop = asyncio.Event()
    made_calls = 0

    async def keep_calling(stub: Any) -> None:
        nonlocal made_calls
        while not stop.is_set():
            await stub.GetDocument(GET, timeout=5)
            made_calls += 1

    async with serving(folder) as served, transport.connect("rag", served.target) as channel:
        stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(channel)
        before = await served.serial()
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(keep_calling(stub))
            for _ in range(3):
                authority_of(folder)
                new = x509.load_pem_x509_certificate((folder / "rag.crt").read_bytes())
                await eventually(lambda: serves(served, new.serial_number))  # noqa: B023
                seen = made_calls
                await eventually(lambda: made_calls > seen + 100)  # noqa: B023
            stop.set()
        assert before != await served.serial()
        own = x509.load_pem_x509_certificate((folder / "session.crt").read_bytes())
        await eventually(lambda: files.current.leaf.serial_number == own.serial_number)
    watching.cancel()


async def serves(served: Served, serial: int) -> bool:
    return await served.serial() == serial


@pytest.mark.asyncio
@pytest.mark.promise("TLS-03")
async def test_an_authority_is_replaced_by_trusting_both_for_a_while(folder: Path) -> None:
    """What the README tells to do: the CA file may hold several."""
    transport = Transport(tls=TlsFiles(settings(folder), "session"))
    files = transport_files(transport)
    async with serving(folder) as served:
        await call(transport, served)
        new = new_authority(MONTH)
        old_pem = (folder / "ca.crt").read_bytes()
        (folder / "ca.crt").write_bytes(old_pem + new.pem)
        assert files.look()
        await eventually(lambda: served.files.current.ca == old_pem + new.pem)
        certificate, key = new.issue(["rag"], MONTH)
        write(folder, "rag", certificate, key)
        serial = x509.load_pem_x509_certificate(certificate).serial_number
        await eventually(lambda: serves(served, serial))
        await call(transport, served)


@pytest.mark.promise("TLS-03")
@pytest.mark.parametrize("damage", ["key-of-another", "expired", "garbage", "gone"])
def test_bad_files_are_not_taken_and_good_ones_later_are(folder: Path, damage: str) -> None:
    files = TlsFiles(settings(folder), "rag")
    before = files.current
    authority = authority_of(folder)
    good, key = authority.issue(["rag"], MONTH)
    match damage:
        case "key-of-another":
            write(folder, "rag", good, authority.issue(["rag"], MONTH)[1])
        case "expired":
            write(
                folder,
                "rag",
                *authority.issue(["rag"], MONTH, begin=datetime.now(UTC) - 2 * MONTH),
            )
        case "garbage":
            write(folder, "rag", b"no certificate", key)
        case _:
            (folder / "rag.crt").unlink()
    assert not files.look()
    assert files.current is before
    with pytest.raises(SettingsError, match=r"MESHWRIGHT_TLS__(CERTIFICATE|KEY)_FILE: .*rag"):
        TlsFiles(settings(folder), "rag")
    write(folder, "rag", good, key)
    assert files.look()
    assert files.current.certificate == good


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.promise("TLS-04")
def test_dev_certs_makes_what_services_need_and_overwrites_nothing(tmp_path: Path) -> None:
    out = tmp_path / "certs"
    made = run_command("dev-certs", "--out", str(out), "--days", "7")
    assert made.returncode == 0, made.stderr
    assert f"MESHWRIGHT_TLS__CERTIFICATE_FILE={out}/{{service}}.crt" in made.stdout
    leaf = TlsFiles(settings(out), "model-router").current.leaf
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ["model-router", "localhost"] == names.get_values_for_type(x509.DNSName)
    assert timedelta(days=6) < leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(days=7)
    assert {path.stat().st_mode & 0o777 for path in out.glob("*.key")} == {0o600}
    again = run_command("dev-certs", "--out", str(out))
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert TlsFiles(settings(out), "model-router").current.leaf == leaf
    ca = (out / "ca.crt").read_bytes()
    assert run_command("dev-certs", "--out", str(out), "--force").returncode == 0
    assert TlsFiles(settings(out), "model-router").current.leaf != leaf
    assert ca == (out / "ca.crt").read_bytes()


@pytest.mark.promise("TLS-05")
def test_a_process_starts_others_while_its_peers_shake_hands(folder: Path) -> None:
    """As model-router does at its start: fork and gRPC's threads waited for each other."""
    command = [sys.executable, str(SPAWNING), str(folder), "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            while process.poll() is None:
                with suppress(OSError), ExitStack() as stack:
                    for _ in range(8):
                        peer = socket.create_connection(("127.0.0.1", port), timeout=1)
                        stack.enter_context(peer)
            assert process.returncode == 0
        finally:
            process.kill()


@pytest.mark.timeout(180)
@pytest.mark.promise("TLS-05")
@pytest.mark.parametrize("split", [False, True], ids=["together", "split"])
def test_the_platform_runs_over_mutual_tls(tmp_path: Path, split: bool) -> None:
    certs = tmp_path / "certs"
    assert run_command("dev-certs", "--out", str(certs)).returncode == 0
    variables = {
        "MESHWRIGHT_TLS__CA_FILE": str(certs / "ca.crt"),
        "MESHWRIGHT_TLS__CERTIFICATE_FILE": str(certs / "{service}.crt"),
        "MESHWRIGHT_TLS__KEY_FILE": str(certs / "{service}.key"),
    }
    with (
        running_platform(tmp_path / "data", split=split, environment=variables) as platform,
        platform.client() as client,
    ):
        for route in ("models", "sessions", "tools", "knowledge-bases", "agents"):
            assert client.get(f"/api/v1/{route}").status_code == httpx.codes.OK
        arguments = ("status", "--data", str(platform.data))
        assert run_command(*arguments, environment=variables).returncode == 0
        # Without certificates nothing tells that anybody is there.
        stranger = run_command(*arguments)
        assert (stranger.returncode, stranger.stdout.count("unreachable")) == (1, 6)
        looked = run_command("doctor", "--data", str(platform.data), environment=variables)
        assert looked.returncode == 0, looked.stdout
