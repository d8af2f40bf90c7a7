"""MCP servers: protobuf to domain and back, with the checks of shape."""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import urlsplit

from google.protobuf import json_format, struct_pb2

from meshwright.tool_exec.v1 import mcp_server_pb2 as pb
from meshwright.tool_exec.v1 import mcp_service_pb2, tool_pb2
from meshwright_common.egress import EgressClient
from meshwright_common.errors import PermissionDenied, invalid
from meshwright_common.ids import new_id
from meshwright_tool_exec.domain.mcp_pinning import readable
from meshwright_tool_exec.domain.mcp_ports import NewServer
from meshwright_tool_exec.domain.mcp_servers import (
    MAX_TOOLS,
    BearerToken,
    Credential,
    CredentialKind,
    HeaderValue,
    McpServer,
    OauthClient,
    PinnedTool,
    ServerKey,
    State,
    Transport,
)
from meshwright_tool_exec.wire import EFFECTS

NAME: Final = re.compile(r"[a-z0-9_-]{1,32}")
MAX_DESCRIPTION: Final = 2_000
MAX_URL: Final = 2_048
MAX_SECRET: Final = 4_096
MAX_CLIENT_ID: Final = 512
MAX_SCOPES: Final = 32
MAX_REQUEST_ID: Final = 128
MAX_NAMES: Final = 200
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_REFUSED_HEADERS: Final = frozenset(
    {
        *("host", "origin", "cookie", "connection", "content-length", "content-type", "accept"),
        *("transfer-encoding", "accept-encoding", "user-agent", "te", "upgrade", "expect"),
        *("last-event-id", "traceparent", "tracestate"),
    }
)
_TRANSPORTS: Final = {
    pb.MCP_TRANSPORT_UNSPECIFIED: Transport.STREAMABLE_HTTP,
    pb.MCP_TRANSPORT_STREAMABLE_HTTP: Transport.STREAMABLE_HTTP,
    pb.MCP_TRANSPORT_SSE: Transport.SSE,
    pb.MCP_TRANSPORT_STDIO: Transport.STDIO,
}
_TRANSPORTS_SHOWN: Final = {
    Transport.STREAMABLE_HTTP: pb.MCP_TRANSPORT_STREAMABLE_HTTP,
    Transport.SSE: pb.MCP_TRANSPORT_SSE,
    Transport.STDIO: pb.MCP_TRANSPORT_STDIO,
}
_STATES: Final = {
    State.CONNECTING: pb.MCP_SERVER_STATE_CONNECTING,
    State.READY: pb.MCP_SERVER_STATE_READY,
    State.UNAVAILABLE: pb.MCP_SERVER_STATE_UNAVAILABLE,
    State.UNAUTHORIZED: pb.MCP_SERVER_STATE_UNAUTHORIZED,
    State.REMOVED: pb.MCP_SERVER_STATE_REMOVED,
}
_KINDS: Final = {
    CredentialKind.NONE: pb.MCP_CREDENTIAL_KIND_UNSPECIFIED,
    CredentialKind.BEARER: pb.MCP_CREDENTIAL_KIND_BEARER,
    CredentialKind.HEADER: pb.MCP_CREDENTIAL_KIND_HEADER,
    CredentialKind.OAUTH_CLIENT: pb.MCP_CREDENTIAL_KIND_OAUTH_CLIENT,
}


def new_server(
    request: mcp_service_pb2.AddServerRequest, tenant_id: str, egress: EgressClient
) -> NewServer:
    """Return the server to add. Raises: InvalidArgument, EgressRefused, PermissionDenied."""
    name = server_name(request.name)
    if len(request.description) > MAX_DESCRIPTION:
        raise invalid("description", f"must be at most {MAX_DESCRIPTION} characters")
    transport = _TRANSPORTS.get(request.transport)
    if transport is None:
        raise invalid("transport", "is none that is known")
    if transport is Transport.STDIO:
        raise PermissionDenied("programs are named by the operator's configuration alone")
    if len(request.request_id) > MAX_REQUEST_ID:
        raise invalid("request_id", f"must be at most {MAX_REQUEST_ID} characters")
    _check_url("url", request.url, egress)
    server = McpServer(
        key=ServerKey(tenant_id, name),
        transport=transport,
        url=request.url,
        generation=new_id(),
        description=request.description,
        trusts_annotations=request.trust_annotations,
        approves_first=request.approve_tools,
    )
    credential = None
    if request.HasField("credential"):
        credential = _credential(request.credential, egress)
    return NewServer(server, credential, replaces=request.replace, request_id=request.request_id)


def server_name(name: str, field: str = "name") -> str:
    """Return a server's name. Raises: InvalidArgument."""
    if not NAME.fullmatch(name):
        raise invalid(field, "must be 1 to 32 characters of a-z, 0-9, _ and -")
    return name


def definitions(request: mcp_service_pb2.RefreshServerRequest) -> frozenset[str]:
    """Return the hashes to approve. Raises: InvalidArgument."""
    if len(request.approve_definitions) > MAX_TOOLS:
        raise invalid("approve_definitions", f"must be at most {MAX_TOOLS}")
    for digest in request.approve_definitions:
        if not _DIGEST.fullmatch(digest):
            raise invalid("approve_definitions", "must be 64 hexadecimal digits each")
    return frozenset(request.approve_definitions)


def server_message(server: McpServer, *, with_tools: bool = True) -> pb.McpServer:
    """Return the server as the wire shows it: never its credential."""
    message = pb.McpServer(
        name=server.key.name,
        description=server.description,
        transport=_TRANSPORTS_SHOWN[server.transport],
        url=server.url,
        operator_owned=server.is_operators,
        credential_kind=_KINDS[server.credential_kind],
        state=_STATES[server.state],
        failure_message=server.failure,
        protocol_version=server.protocol_version,
        tool_count=len(server.tools),
        pending_tool_count=sum(not tool.is_approved for tool in server.tools),
        trust_annotations=server.trusts_annotations,
    )
    if with_tools:
        message.tools.extend(map(_tool_message, server.tools))
    if server.create_time is not None:
        message.create_time.FromDatetime(server.create_time)
    if server.refresh_time is not None:
        message.refresh_time.FromDatetime(server.refresh_time)
    return message


def _tool_message(tool: PinnedTool) -> pb.McpTool:
    return pb.McpTool(
        name=tool.name,
        description=readable(tool.description),
        input_schema=json_format.Parse(json.dumps(tool.input_schema), struct_pb2.Struct()),
        effect=EFFECTS.get(tool.effect, tool_pb2.TOOL_EFFECT_NON_IDEMPOTENT),
        definition_sha256=tool.sha256,
        approved=tool.is_approved,
        previous_definition_sha256=tool.previous_sha256,
    )


def _credential(message: pb.McpCredential, egress: EgressClient) -> Credential:
    kind = message.WhichOneof("kind")
    if kind == "bearer_token":
        _check_secret("credential.bearer_token", message.bearer_token)
        return BearerToken(message.bearer_token)
    if kind == "header":
        header = message.header
        name = header.name.lower()
        if not _HEADER.fullmatch(name):
            raise invalid("credential.header.name", "must be a header's name, at most 64 long")
        if name in _REFUSED_HEADERS or name.startswith("mcp-"):
            raise invalid("credential.header.name", f"must not be {name}")
        _check_secret("credential.header.value", header.value)
        return HeaderValue(name, header.value)
    if kind == "oauth_client":
        client = message.oauth_client
        where = "credential.oauth_client"
        if not 1 <= len(client.client_id) <= MAX_CLIENT_ID:
            raise invalid(f"{where}.client_id", f"must be 1 to {MAX_CLIENT_ID} characters")
        _check_secret(f"{where}.client_secret", client.client_secret)
        _check_url(f"{where}.token_url", client.token_url, egress)
        if len(client.scopes) > MAX_SCOPES:
            raise invalid(f"{where}.scopes", f"must be at most {MAX_SCOPES}")
        if not all(_SCOPE.fullmatch(scope) for scope in client.scopes):
            raise invalid(f"{where}.scopes", "must be scopes of OAuth, at most 128 characters each")
        return OauthClient(
            client.client_id, client.client_secret, client.token_url, tuple(client.scopes)
        )
    raise invalid("credential", "must be a bearer token, a header or an OAuth client")


def _check_secret(field: str, value: str) -> None:
    if not 1 <= len(value) <= MAX_SECRET or not value.isascii() or not value.isprintable():
        raise invalid(field, f"must be 1 to {MAX_SECRET} printable ASCII characters")


def _check_url(field: str, url: str, egress: EgressClient) -> None:
    if not 1 <= len(url) <= MAX_URL:
        raise invalid(field, f"must be 1 to {MAX_URL} characters")
    egress.check(url)
    if urlsplit(url).scheme != "https" and not egress.exempts(url):
        raise invalid(field, "must begin with https://")
