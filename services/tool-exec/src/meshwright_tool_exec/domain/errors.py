"""Errors of tools and their calls."""

from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)


class ToolNotFound(NotFound):
    """No tool of this name may be used by the caller."""

    reason = "TOOL_NOT_FOUND"
    text = "there is no tool named {tool}"


class ToolArgumentsInvalid(InvalidArgument):
    """The arguments are not JSON or do not fit the tool's schema."""

    reason = "TOOL_ARGUMENTS_INVALID"


class ToolFailed(FailedPrecondition):
    """The tool ran and could not do its work. The text is for the model and the user."""

    reason = "TOOL_FAILED"


class ToolTimeout(DeadlineExceeded):
    """The tool took longer than it may."""

    reason = "TOOL_TIMEOUT"
    text = "the tool did not answer within {timeout_seconds} seconds"


class CallNotFound(NotFound):
    """No such call of the caller is running here."""

    reason = "TOOL_CALL_NOT_FOUND"
    text = "no call with this id is running"


class CallSuperseded(Aborted):
    """Another run of the same call recorded its outcome first."""

    reason = "LEASE_LOST"


class OutcomeUnknown(Aborted):
    """The call was sent and no answer came: whether it took effect nobody knows."""

    reason = "OUTCOME_UNKNOWN"
    text = "the call was sent and its answer did not come; whether it took effect is unknown"


class McpServerNotFound(NotFound):
    """The tenant has no such MCP server, and the operator neither."""

    reason = "MCP_SERVER_NOT_FOUND"
    text = "there is no MCP server named {server}"


class McpServerExists(AlreadyExists):
    """The name is taken."""

    text = "there is an MCP server {server} already: set replace, or choose another name"


class McpServerUnavailable(Unavailable):
    """The MCP server does not answer, or not as it should. The text says how."""

    reason = "MCP_SERVER_UNAVAILABLE"


class McpServerUnauthorized(McpServerUnavailable):
    """The MCP server refused the credential."""


class OperatorsServer(FailedPrecondition):
    """Only the operator's configuration changes it."""

    text = "the MCP server {server} comes from the operator's configuration"


class TooManyServers(ResourceExhausted):
    """The tenant has as many MCP servers as the operator allows."""

    text = "a tenant may have {limit} MCP servers (tool_exec.mcp.servers_per_tenant)"


class DefinitionNotOffered(Aborted):
    """A definition to approve is not what the server offers now."""

    reason = "CONFLICT"
    text = "the server does not offer the definition {definition} now: read its tools again"


class RequestIdReused(AlreadyExists):
    """The request id was used for another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    text = "request_id was used for another request: use a new one"
