"""Definitions of tools are pinned: what a server changes later is not used before it is approved.

A server that is trusted for what its tools said yesterday may say something else today, to models
that follow what they read. So an approval is of one definition, by its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from typing import Final

from jsonschema import Draft202012Validator

from meshwright_tool_exec.domain.errors import DefinitionNotOffered
from meshwright_tool_exec.domain.mcp_servers import MAX_TOOLS, McpServer, OfferedTool, PinnedTool
from meshwright_tool_exec.domain.models import Effect, JsonObject

MAX_NAME: Final = 64
"""Characters of a tool's name (tool.proto)."""
MAX_SCHEMA_BYTES: Final = 64 * 1024
"""Of a schema as JSON; a tool with a longer one is left out."""
MAX_SCHEMA_DEPTH: Final = 32
MAX_DESCRIPTION: Final = 8 * 1024
"""Characters; the rest is cut."""
HASH_CHARACTERS: Final = 6
_OTHERS: Final = re.compile(r"[^A-Za-z0-9_.-]")
_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]"
)


def pin(
    server: McpServer, offered: Sequence[OfferedTool], approve: Collection[str] = ()
) -> tuple[PinnedTool, ...]:
    """Return the tools of a server by name, at most 200, as they may be used from now on.

    Definitions that were approved stay so; `approve` are hashes of others. What cannot be a tool
    (no schema, or one that is too large) is left out. Raises: DefinitionNotOffered for a hash that
    no tool has; nothing is approved then.
    """
    known = {tool.name: tool for tool in server.tools}
    pinned: dict[str, PinnedTool] = {}
    for tool in offered:
        if len(pinned) == MAX_TOOLS:
            break
        if not _is_usable(tool.input_schema):
            continue
        made = _pinned(server, tool, known, approve)
        pinned.setdefault(made.name, made)
    found = {tool.sha256 for tool in pinned.values()}
    for definition in approve:
        if definition not in found:
            raise DefinitionNotOffered(definition=definition[:64])
    return tuple(pinned[name] for name in sorted(pinned))


def agents_name(server: str, tool: str) -> str:
    """Return the name under which agents call a server's tool: "<server>.<tool>".

    One that does not fit is cut and ends in a part of its hash, so that two stay two.
    """
    name = f"{server}.{tool}"
    if len(name) <= MAX_NAME and tool and not _OTHERS.search(tool):
        return name
    digest = hashlib.sha256(tool.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARACTERS]
    return f"{_OTHERS.sub('_', name)[: MAX_NAME - HASH_CHARACTERS - 1]}_{digest}"


def readable(text: str, most_characters: int = MAX_DESCRIPTION) -> str:
    """Return foreign text without what is not seen: controls, marks that turn the direction."""
    return _CONTROLS.sub(" ", text)[:most_characters]


def _pinned(
    server: McpServer, tool: OfferedTool, known: dict[str, PinnedTool], approve: Collection[str]
) -> PinnedTool:
    name = agents_name(server.key.name, tool.name)
    effect = _effect(tool, is_trusted=server.trusts_annotations)
    digest = _digest(tool, effect)
    before = known.get(name)
    previous = ""
    is_approved = digest in approve or server.approves_first
    if before is not None and before.sha256 == digest:
        is_approved = is_approved or before.is_approved
        previous = before.previous_sha256
    elif before is not None:
        previous = before.sha256 if before.is_approved else before.previous_sha256
    return PinnedTool(
        name=name,
        offered_name=tool.name,
        description=tool.description[:MAX_DESCRIPTION],
        input_schema=tool.input_schema,
        effect=effect,
        sha256=digest,
        is_approved=is_approved,
        previous_sha256=previous,
    )


def _effect(tool: OfferedTool, *, is_trusted: bool) -> Effect:
    if is_trusted and tool.is_read_only:
        return Effect.READ_ONLY
    if is_trusted and tool.is_idempotent:
        return Effect.IDEMPOTENT
    return Effect.NON_IDEMPOTENT


def _digest(tool: OfferedTool, effect: Effect) -> str:
    definition = {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.input_schema,
        "effect": effect.value,
    }
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_usable(schema: JsonObject) -> bool:
    try:
        text = json.dumps(schema, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    if len(text) > MAX_SCHEMA_BYTES or schema.get("type") != "object":
        return False
    try:
        if not _is_shallow(schema, MAX_SCHEMA_DEPTH):
            return False
        Draft202012Validator.check_schema(dict(schema))
    except Exception:  # house: broad-except: what a stranger's schema breaks is its own
        return False
    return True


def _is_shallow(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_shallow(one, depth - 1) for one in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_is_shallow(one, depth - 1) for one in value)
    return True
