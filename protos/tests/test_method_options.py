"""Every method says who may call it, and what happens when it is called twice."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

import meshwright
from meshwright.types.v1 import options_pb2, page_pb2

PERMISSIONS = frozenset(
    {
        *("agent:execute", "agent:join", "agent:read", "agent:write"),
        *("audit:read",),
        *("chat:read", "chat:write"),
        *("guard:read", "guard:write"),
        *("kb:read", "kb:write"),
        *("mcp:read", "mcp:schedule"),
        *("memory:read", "memory:write"),
        *("mesh:internal",),
        *("model:invoke", "model:read"),
        *("route:read", "route:write"),
        *("session:delete", "session:read", "session:write"),
        *("skill:read", "skill:write"),
        *("task:read",),
        *("tenant:admin", "tenant:delete", "tenant:read"),
        *("tool:execute", "tool:read"),
        *("usage:read",),
        *("workflow:execute", "workflow:read", "workflow:write"),
    }
)
"""All there are. A misspelt permission would be one that no role holds, and lock everybody out."""

KEYED_OTHERWISE = {
    "meshwright.model_router.v1.ModelService.Generate": "attribution: (task_id, step, attempt)",
    "meshwright.rag.v1.KnowledgeService.Reindex": "twice gives the same index",
    "meshwright.session.v1.DirectoryService.CreateApiKey": "the secret cannot be shown twice",
    "meshwright.session.v1.SessionService.CompareAndSetContext": "expected_version",
    "meshwright.session.v1.WebhookService.CreateWebhook": "the secret cannot be shown twice",
    "meshwright.session.v1.WebhookService.RotateSecret": "the secret cannot be shown twice",
    "meshwright.session.v1.WebhookService.SendTest": "each call is a test of its own",
    "meshwright.tool_exec.v1.ToolService.ExecuteTool": "(task_id, step, call_index)",
}
"""Mutations without a request_id, and what makes it safe, or useless, to call them again."""

WITHOUT_PAGES = {
    "meshwright.model_router.v1.BudgetService.ListBudgets": "two a scope",
    "meshwright.model_router.v1.ModelService.ListModels": "as many as the operator configured",
    "meshwright.session.v1.AuditService.ListSigningKeys": "one key, and those that it replaced",
}
"""Lists that are short by nature, and why."""


def methods() -> Iterator[MethodDescriptor]:
    """Yield every method of every proto."""
    for module in pkgutil.walk_packages(meshwright.__path__, "meshwright."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


METHODS = {method.full_name: method for method in methods()}


@pytest.mark.parametrize("name", METHODS)
def test_method_declares_a_known_permission(name: str) -> None:
    permission = METHODS[name].GetOptions().Extensions[options_pb2.permission]
    assert permission in PERMISSIONS


def test_no_permission_is_left_without_a_method() -> None:
    used = {method.GetOptions().Extensions[options_pb2.permission] for method in METHODS.values()}
    assert used == PERMISSIONS


@pytest.mark.parametrize("name", METHODS)
def test_mutation_can_be_repeated_safely(name: str) -> None:
    """A caller that lost the answer calls again: reads and idempotent methods as they are, others
    with the same request_id (protocol.md, house style)."""
    method = METHODS[name]
    safe = method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    keyed = has_request_id(method.input_type)
    assert (safe or keyed) != (name in KEYED_OTHERWISE)


def has_request_id(message: Descriptor) -> bool:
    """Say whether `message`, or a part of a streamed request, carries a request_id."""
    parts = (field.message_type for oneof in message.oneofs for field in oneof.fields)
    return "request_id" in message.fields_by_name or any(
        part is not None and "request_id" in part.fields_by_name for part in parts
    )


@pytest.mark.parametrize("name", METHODS)
def test_read_by_name_has_no_side_effects(name: str) -> None:
    """Get, List and Watch are what callers retry without a thought."""
    level = METHODS[name].GetOptions().idempotency_level
    reads = METHODS[name].name.startswith(("Get", "List", "Watch", "Describe", "Query"))
    assert not reads or level == MethodOptions.NO_SIDE_EFFECTS


LISTS = [name for name, method in METHODS.items() if method.name.startswith("List")]


@pytest.mark.parametrize("name", LISTS)
def test_list_is_paginated(name: str) -> None:
    method = METHODS[name]
    request = method.input_type.fields_by_name.get("page")
    answer = method.output_type.fields_by_name.get("page")
    paginated = (
        request is not None
        and answer is not None
        and request.message_type is page_pb2.PageRequest.DESCRIPTOR
        and answer.message_type is page_pb2.PageInfo.DESCRIPTOR
    )
    assert paginated != (name in WITHOUT_PAGES)


@pytest.mark.parametrize("excused", [KEYED_OTHERWISE, WITHOUT_PAGES])
def test_excuses_name_methods_that_exist(excused: dict[str, str]) -> None:
    assert excused.keys() <= METHODS.keys()
