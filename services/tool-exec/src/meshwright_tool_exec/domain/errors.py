"""Errors of tools and their calls."""

from meshwright_common.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
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
