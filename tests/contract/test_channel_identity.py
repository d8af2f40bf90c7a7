"""What every server promises about who may call it, in one process and over gRPC (C3)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

import meshwright
from meshwright.rag.v1 import knowledge_service_pb2 as pb
from meshwright.rag.v1.knowledge_service_pb2_grpc import (
    KnowledgeServiceServicer,
    KnowledgeServiceStub,
    add_KnowledgeServiceServicer_to_server,
)
from meshwright.tool_exec.v1 import skill_service_pb2, skill_service_pb2_grpc
from meshwright_common import context as call_context
from meshwright_common.clock import ManualClock, SystemClock
from meshwright_common.context import Principal
from meshwright_common.errors import PermissionDenied, Unauthenticated, Unimplemented
from meshwright_common.identity.keys import ephemeral_keys
from meshwright_common.identity.tokens import TokenMinter
from meshwright_common.ids import new_id
from meshwright_common.rpc.local import LocalServer
from meshwright_common.rpc.server import ServiceTableError, verify_services
from meshwright_common.rpc.unserved import add_unserved_service
from meshwright_common.testing.mesh import Served, Substrate, calling_as, serving, user

pytestmark = pytest.mark.asyncio

Context = grpc.aio.ServicerContext[Any, Any]
TENANT = new_id()
OTHER_TENANT = new_id()
GET = pb.GetDocumentRequest()
PATH = "/meshwright.rag.v1.KnowledgeService/GetDocument"


class Witness(KnowledgeServiceServicer):
    """Notes who called."""

    def __init__(self) -> None:
        self.callers: list[Principal] = []

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        self.callers.append(call_context.principal())
        return pb.GetDocumentResponse()

    def register(self, server: grpc.aio.Server) -> None:
        add_KnowledgeServiceServicer_to_server(self, server)


async def code_of(call: Any) -> grpc.StatusCode:
    """Return the code a raw call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def all_services() -> Iterator[ServiceDescriptor]:
    for module in pkgutil.walk_packages(meshwright.__path__, "meshwright."):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()


def call_any(channel: grpc.aio.Channel, path: str, method: Any, **kwargs: Any) -> Any:
    """Call a method of any kind with an empty request; return what ends with its status."""
    request = GetMessageClass(method.input_type)()
    codec = (
        type(request).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )
    if method.client_streaming and method.server_streaming:
        return channel.stream_stream(path, *codec)(iter([request]), **kwargs).read()
    if method.client_streaming:
        return channel.stream_unary(path, *codec)(iter([request]), **kwargs)
    if method.server_streaming:
        return channel.unary_stream(path, *codec)(request, **kwargs).read()
    return channel.unary_unary(path, *codec)(request, **kwargs)


@pytest.mark.promise("S-23")
async def test_every_method_of_every_service_needs_credentials(substrate: Substrate) -> None:
    services = [*all_services()]

    def register(server: grpc.aio.Server) -> None:
        for service in services:
            add_unserved_service(service.full_name, server)

    codes: dict[str, grpc.StatusCode] = {}
    async with serving(register, substrate=substrate) as served:
        channel = served.raw_channel()
        for service in services:
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                codes[path] = await code_of(call_any(channel, path, method, timeout=5))
    assert len(codes) > 60
    assert {grpc.StatusCode.UNAUTHENTICATED} == set(codes.values())


@pytest.mark.promise("S-24")
@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", "Basic YTpi"),),
        (("authorization-bin", b"Bearer x"),),
        (("x-tenant-id", TENANT), ("x-user-id", "root"), ("x-role", "admin")),
        (("x-forwarded-user", "root"), ("x-forwarded-access-token", "x")),
    ],
)
async def test_metadata_alone_is_no_identity(
    substrate: Substrate, metadata: tuple[tuple[str, str | bytes], ...]
) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub: Any = KnowledgeServiceStub(served.raw_channel())
        code = await code_of(stub.GetDocument(GET, metadata=metadata))
    assert grpc.StatusCode.UNAUTHENTICATED is code
    assert [] == witness.callers


@pytest.mark.promise("S-24")
async def test_claims_beside_the_token_are_ignored(substrate: Substrate) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub: Any = KnowledgeServiceStub(served.raw_channel())
        caller = user(TENANT, "kb:read")
        claims = (("x-tenant-id", OTHER_TENANT), ("x-user-id", "root"), ("x-role", "admin"))
        await stub.GetDocument(GET, metadata=(*claims, *served.credentials(caller)))
    assert [caller] == witness.callers


@pytest.mark.promise("S-24")
@pytest.mark.parametrize("order", ["good-first", "good-last", "twice-the-same"])
async def test_second_authorization_is_refused(substrate: Substrate, order: str) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub: Any = KnowledgeServiceStub(served.raw_channel())
        (good,) = served.credentials(user(TENANT, "kb:read"))
        (other,) = served.credentials(user(OTHER_TENANT, "kb:read"))
        pairs = {
            "good-first": (good, other),
            "good-last": (("authorization", "Bearer x"), good),
            "twice-the-same": (good, good),
        }
        code = await code_of(stub.GetDocument(GET, metadata=pairs[order]))
    assert grpc.StatusCode.UNAUTHENTICATED is code
    assert [] == witness.callers


def misused_tokens(served: Served) -> dict[str, str]:
    """Return tokens that must not open anything, by what is wrong with them."""
    caller = user(TENANT, "kb:read")
    key = served.keys.private_key("rag")
    good = served.token(caller, "rag")
    claims = jwt.decode(good, options={"verify_signature": False})
    header = {"kid": "rag", "typ": "mesh+jwt"}

    def forged(**changes: object) -> str:
        return jwt.encode({**claims, **changes}, key, "EdDSA", headers=header)

    long_ago = ManualClock(SystemClock().now() - timedelta(seconds=60 + 31))
    stranger = ephemeral_keys(["rag"]).private_key("rag")
    return {
        "expired": TokenMinter("rag", key, long_ago).issue(caller).value,
        "another audience": forged(aud="elsewhere"),
        "another service's name": forged(iss="chat"),
        "another service's key": TokenMinter("chat", key).issue(caller).value,
        "a stranger's key": TokenMinter("rag", stranger).issue(caller).value,
        "a stranger's name": TokenMinter("intruder", key).issue(caller).value,
        "a user with the services' permission": forged(perms=["kb:read", "mesh:internal"]),
        "no signature": good.rpartition(".")[0] + ".",
    }


@pytest.mark.promise("S-25")
async def test_misused_token_is_refused(substrate: Substrate) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub: Any = KnowledgeServiceStub(served.raw_channel())
        codes = {
            what: await code_of(
                stub.GetDocument(GET, metadata=(("authorization", f"Bearer {token}"),))
            )
            for what, token in misused_tokens(served).items()
        }
    assert dict.fromkeys(codes, grpc.StatusCode.UNAUTHENTICATED) == codes
    assert [] == witness.callers


@pytest.mark.promise("S-26")
async def test_missing_permission_is_denied_and_named(substrate: Substrate) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        with (
            calling_as(TENANT, "kb:write", "kb", "kb:*", "*"),
            pytest.raises(PermissionDenied) as denied,
        ):
            await stub.GetDocument(GET)
    assert {"permission": "kb:read"} == denied.value.metadata
    assert [] == witness.callers


@pytest.mark.promise("S-26")
async def test_method_that_is_not_served_as_declared_stops_the_start() -> None:
    incomplete = LocalServer()
    Witness().register(incomplete)
    with pytest.raises(ServiceTableError, match="KnowledgeService/UploadDocument"):
        verify_services(incomplete)
    undeclared = LocalServer()
    handler: Any = grpc.unary_unary_rpc_method_handler(Witness().GetDocument)
    undeclared.add_registered_method_handlers("meshwright.rag.v1.Secret", {"Get": handler})
    with pytest.raises(ServiceTableError, match="Secret"):
        verify_services(undeclared)


@pytest.mark.promise("S-26")
async def test_health_needs_no_credentials() -> None:
    async with serving(Witness().register, substrate="grpc") as served:
        stub: Any = health_pb2_grpc.HealthStub(served.raw_channel())
        name = "meshwright.rag.v1.KnowledgeService"
        one = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        every = await stub.List(health_pb2.HealthListRequest())  # type: ignore[attr-defined]
    assert health_pb2.HealthCheckResponse.SERVING == one.status
    assert {"", "meshwright.rag.v1.KnowledgeService"} == set(every.statuses)


@pytest.mark.promise("S-27")
@pytest.mark.parametrize(
    "path",
    [
        PATH.removeprefix("/"),
        PATH.lower(),
        "/" + PATH,
        PATH + "/",
        PATH + "?x",
        PATH + "#",
        PATH.replace("Get", "%47et"),
        PATH.replace(".v1", ".v2"),
        PATH.replace("KnowledgeService", "../rag.v1.KnowledgeService"),
        "/",
        "/x",
    ],
)
async def test_odd_path_is_not_found(substrate: Substrate, path: str) -> None:
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        call = served.raw_channel().unary_unary(
            path, pb.GetDocumentRequest.SerializeToString, pb.GetDocumentResponse.FromString
        )
        codes = {
            await code_of(call(GET, timeout=5)),
            await code_of(
                call(GET, timeout=5, metadata=served.credentials(user(TENANT, "kb:read")))
            ),
        }
    assert {grpc.StatusCode.UNIMPLEMENTED} == codes
    assert [] == witness.callers


@pytest.mark.promise("S-27")
async def test_handler_behind_an_undeclared_path_is_denied(substrate: Substrate) -> None:
    """A generic handler that answers everything must not become a way around the table."""
    witness = Witness()

    class CatchAll(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                witness.GetDocument,
                pb.GetDocumentRequest.FromString,
                pb.GetDocumentResponse.SerializeToString,
            )

    def register(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((CatchAll(),))

    async with serving(register, substrate=substrate) as served:
        call = served.raw_channel().unary_unary(
            PATH.lower(), pb.GetDocumentRequest.SerializeToString, pb.GetDocumentResponse.FromString
        )
        metadata = served.credentials(user(TENANT, "kb:read"))
        assert grpc.StatusCode.PERMISSION_DENIED is await code_of(call(GET, metadata=metadata))
    assert [] == witness.callers


@pytest.mark.promise("US-01")
async def test_method_not_yet_served_says_so(substrate: Substrate) -> None:
    def register(server: grpc.aio.Server) -> None:
        add_unserved_service("meshwright.tool_exec.v1.SkillService", server)

    async with serving(register, substrate=substrate) as served:
        verify_services(served.local_server)
        stub = skill_service_pb2_grpc.SkillServiceStub(served.channels().open("tool-exec"))
        with calling_as(TENANT, "skill:read"):
            with pytest.raises(Unimplemented) as refused:
                await stub.ListSkills(skill_service_pb2.ListSkillsRequest())
            with pytest.raises(PermissionDenied):
                await stub.RegisterSkill(skill_service_pb2.RegisterSkillRequest())
    assert "NOT_YET_SERVED" == refused.value.reason


@pytest.mark.promise("US-01")
async def test_generated_base_of_a_method_not_yet_served_says_so(substrate: Substrate) -> None:
    def register(server: grpc.aio.Server) -> None:
        skill_service_pb2_grpc.add_SkillServiceServicer_to_server(
            skill_service_pb2_grpc.SkillServiceServicer(), server
        )

    async with serving(register, substrate=substrate) as served:
        verify_services(served.local_server)
        stub = skill_service_pb2_grpc.SkillServiceStub(served.channels().open("tool-exec"))
        with calling_as(TENANT, "skill:read"), pytest.raises(Unimplemented) as unary:
            await stub.ListSkills(skill_service_pb2.ListSkillsRequest())
    assert "NOT_YET_SERVED" == unary.value.reason


@pytest.mark.promise("S-23")
async def test_token_of_a_caller_opens_what_it_permits(substrate: Substrate) -> None:
    """The other direction: the refusals above are not because nothing works."""
    witness = Witness()
    async with serving(witness.register, substrate=substrate) as served:
        stub = KnowledgeServiceStub(served.channels().open("rag"))
        with calling_as(TENANT, "kb:read"):
            await stub.GetDocument(GET)
        with calling_as(TENANT), pytest.raises(PermissionDenied):
            await stub.GetDocument(GET)
        with pytest.raises(Unauthenticated):
            await stub.GetDocument(GET)
    assert 1 == len(witness.callers)
