"""HTTP GET of public addresses, through the egress guard."""

from typing import Final

from meshwright_tool_exec.domain.models import CallScope, Effect, ToolOutput, ToolSpec
from meshwright_tool_exec.domain.ports import WebFetcher
from meshwright_tool_exec.domain.registry import Tool

MAX_PAGE_BYTES: Final = 1024 * 1024
"""Largest body that is read; a longer one is refused."""

SPEC: Final = ToolSpec(
    name="http_get",
    description="Fetch a public http(s) address with GET and return its status and text.",
    input_schema={
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "minLength": 8,
                "maxLength": 2048,
                "description": "Absolute address starting with http:// or https://",
            }
        },
        "required": ["url"],
        "additionalProperties": False,
    },
    effect=Effect.READ_ONLY,
    timeout_seconds=30.0,
)


def http_get(fetcher: WebFetcher) -> Tool:
    """Return the tool over `fetcher`."""

    async def run(arguments: dict[str, object], _scope: CallScope) -> ToolOutput:
        page = await fetcher.get(str(arguments["url"]), max_bytes=MAX_PAGE_BYTES)
        return ToolOutput(
            {
                "url": page.url,
                "status": page.status,
                "media_type": page.media_type,
                "text": page.text,
            }
        )

    return Tool(SPEC, run)
