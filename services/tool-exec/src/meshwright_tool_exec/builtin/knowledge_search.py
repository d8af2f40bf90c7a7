"""Search in the tenant's documents, for agents that decide themselves when to look."""

from typing import Final

from meshwright_tool_exec.domain.models import CallScope, Effect, ToolOutput, ToolSpec
from meshwright_tool_exec.domain.ports import PassageSearch
from meshwright_tool_exec.domain.registry import Tool

DEFAULT_TOP_K: Final = 5
MAX_TOP_K: Final = 20

SPEC: Final = ToolSpec(
    name="knowledge_search",
    description="Find passages in the uploaded documents. Returns quotes with document and page.",
    input_schema={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": 4000,
                "description": "What to look for, as a question or keywords",
            },
            "top_k": {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    effect=Effect.READ_ONLY,
    timeout_seconds=10.0,
    permission="kb:read",
)


def knowledge_search(search: PassageSearch) -> Tool:
    """Return the tool over `search`."""

    async def run(arguments: dict[str, object], scope: CallScope) -> ToolOutput:
        top_k = arguments.get("top_k", DEFAULT_TOP_K)
        passages = await search.search(
            str(arguments["query"]),
            knowledge_base_ids=scope.knowledge_base_ids,
            top_k=top_k if isinstance(top_k, int) else DEFAULT_TOP_K,
        )
        return ToolOutput({"passages": list(passages)}, citations=tuple(passages))

    return Tool(SPEC, run)
