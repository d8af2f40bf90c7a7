"""Settings of tool-exec: `MESHWRIGHT_TOOL_EXEC__…`."""

from typing import ClassVar

from pydantic import Field

from meshwright_common.egress import EgressSettings
from meshwright_common.settings import CommonSettings, Section, ServiceName
from meshwright_tool_exec.mcp_settings import McpSection


class ToolExecSection(Section):
    """What this service alone reads."""

    http_get: bool = True
    """Offer the http_get tool. Private addresses are refused in any case."""

    fetch_timeout_seconds: float = Field(default=20, gt=0, le=30)
    """How long http_get waits for an answer."""

    mcp: McpSection = McpSection()


class Settings(CommonSettings):
    """Everything a tool-exec process reads."""

    service: ClassVar[ServiceName] = "tool-exec"

    tool_exec: ToolExecSection = ToolExecSection()
    egress: EgressSettings = EgressSettings()
