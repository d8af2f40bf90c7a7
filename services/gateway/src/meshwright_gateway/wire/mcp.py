"""MCP servers: messages to JSON bodies, and back."""

from typing import Any, Final

from meshwright.tool_exec.v1 import mcp_server_pb2 as pb
from meshwright.tool_exec.v1 import mcp_service_pb2, tool_pb2
from meshwright_gateway.errors import misshapen
from meshwright_gateway.http.schemas import mcp as schemas
from meshwright_gateway.wire import values

_TRANSPORTS: Final[dict[schemas.Transport, pb.McpTransport.ValueType]] = {
    "streamable_http": pb.MCP_TRANSPORT_STREAMABLE_HTTP,
    "sse": pb.MCP_TRANSPORT_SSE,
}


def add_request(
    body: schemas.McpServerCreation, request_id: str
) -> mcp_service_pb2.AddServerRequest:
    """Return the request that adds a server. Raises: ShapeRefused unless of one credential."""
    return mcp_service_pb2.AddServerRequest(
        name=body.name,
        description=body.description,
        transport=_TRANSPORTS[body.transport],
        url=body.url,
        credential=None if body.credential is None else _credential(body.credential),
        approve_tools=body.approve_tools,
        trust_annotations=body.trust_annotations,
        replace=body.replace,
        request_id=request_id,
    )


def server_view(message: pb.McpServer) -> schemas.McpServer:
    """Return a server as JSON shows it, without its tools."""
    return schemas.McpServer.model_validate(_facts(message))


def server_with_tools(message: pb.McpServer) -> schemas.McpServerWithTools:
    """Return a server and its tools as JSON shows them."""
    tools = [_tool(tool) for tool in message.tools]
    return schemas.McpServerWithTools.model_validate({**_facts(message), "tools": tools})


def _credential(body: schemas.CredentialInput) -> pb.McpCredential:
    kinds = (body.bearer_token, body.header, body.oauth_client)
    if sum(kind is not None for kind in kinds) != 1:
        raise misshapen("credential", "must have exactly one of bearer_token, header, oauth_client")
    message = pb.McpCredential()
    if body.bearer_token is not None:
        message.bearer_token = body.bearer_token
    elif body.header is not None:
        message.header.CopyFrom(pb.McpHeaderCredential(**body.header.model_dump()))
    elif body.oauth_client is not None:
        message.oauth_client.CopyFrom(pb.McpOauthClient(**body.oauth_client.model_dump()))
    return message


def _facts(message: pb.McpServer) -> dict[str, Any]:
    kind = values.enum_name(pb.McpCredentialKind, message.credential_kind, "MCP_CREDENTIAL_KIND_")
    return {
        "name": message.name,
        "description": message.description,
        "transport": values.enum_name(pb.McpTransport, message.transport, "MCP_TRANSPORT_"),
        "url": message.url,
        "operator_owned": message.operator_owned,
        "credential_kind": "none" if kind == "unspecified" else kind,
        "trust_annotations": message.trust_annotations,
        "state": values.enum_name(pb.McpServerState, message.state, "MCP_SERVER_STATE_"),
        "failure_message": message.failure_message,
        "protocol_version": message.protocol_version,
        "tool_count": message.tool_count,
        "pending_tool_count": message.pending_tool_count,
        "create_time": values.time_from(message.create_time),
        "refresh_time": values.time_from(message.refresh_time),
    }


def _tool(tool: pb.McpTool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": values.object_from(tool.input_schema),
        "effect": values.enum_name(tool_pb2.ToolEffect, tool.effect, "TOOL_EFFECT_"),
        "definition_sha256": tool.definition_sha256,
        "approved": tool.approved,
        "previous_definition_sha256": tool.previous_definition_sha256,
    }
