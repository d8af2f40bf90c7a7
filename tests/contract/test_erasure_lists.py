"""Whatever is kept of people is in a list of what is erased, or among the exceptions, with why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from meshwright_common.ids import new_id
from tests.contract.erasing import SERVICES, rows, stores_of
from tests.platform_process import Platform
from tests.tenants import new_tenant

ROOT: Final = Path(__file__).resolve().parents[2]
KEPT: Final = {
    "orchestrator.steps": "erased with orchestrator.tasks",
    "orchestrator.transitions": "erased with orchestrator.tasks",
    "orchestrator.interrupts": "erased with orchestrator.tasks",
    "orchestrator.trees": "erased with orchestrator.tasks",
    "orchestrator.workflow_steps": "erased with orchestrator.workflow_runs",
    "orchestrator.workflow_items": "erased with orchestrator.workflow_runs",
    "orchestrator.workflow_transitions": "erased with orchestrator.workflow_runs",
    "orchestrator.workflow_wakes": "erased with orchestrator.workflow_runs",
    "session.context_exports": "erased with objects:contexts",
    "events.dead_work": "erased with events.work",
    "model_router.routing_changes": "which tenants changed their routes, by ids and counters",
    "model_router.guard_changes": "which tenants changed guards, by id: replicas forget them by it",
    "tool_exec.mcp_changes": "which tenants changed MCP servers, by id: replicas forget them by it",
    "session.tenants": "stays as a tombstone: the id, without names",
    "session.erasures": "the receipts: ids and counts",
    "session.erasure_stores": "the receipts: ids and counts",
    "session.audit_records": "who did what, by ids; the log is never rewritten",
    "session.audit_events": "which events are in the log, by ids",
    "session.audit_heads": "where the chain of the log ends",
    "session.audit_anchors": "where the chain of the log begins",
    "session.audit_checkpoints": "signed hashes of the log",
    "encryption.tenant_keys": "the keys themselves are destroyed at a tenant's end",
    "objects:audit": "signed hashes of the log",
    "redis:model-health": "how deployments do, of all tenants; gone an hour or two after the calls",
    "redis:limits": "how many requests came: under digests, and gone within two minutes",
    "redis:places": "how many requests are under way: under digests, and gone within a minute",
}
"""What no service lists by its own name, and why that is right."""
_TABLES: Final = """
SELECT DISTINCT format('%s.%s', n.nspname, c.relname) AS name
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attname = 'tenant_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
   AND NOT c.relispartition AND n.nspname NOT LIKE 'pg\\_%'
"""
_CALLS: Final = {"tenant_key": "redis", "object_key": "objects"}


@pytest.mark.promise("ERASE-06")
def test_every_table_family_of_keys_and_folder_is_erased_or_an_exception(
    platform: Platform,
) -> None:
    tenant = new_tenant(platform)
    named = stores_of(platform, tenant.tenant_id, new_id())
    assert all(named[service] for service in SERVICES)
    listed = {store for stores in named.values() for store in stores}
    tables = {row["name"] for row in rows(platform, _TABLES)}
    assert len(tables) > 35
    used = set(keys_and_folders())
    assert {"redis:turn", "redis:session", "objects:documents", "objects:archives"} <= used
    assert sorted((tables | used) - listed - KEPT.keys()) == []
    gone = {one for one in KEPT if one not in tables | used}
    assert gone == set(), "an exception for what there is not"
    assert KEPT.keys() & listed == set()


def keys_and_folders() -> Iterator[str]:
    """Yield the families of keys and the folders of objects that the sources name."""
    for path in [*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/*/src/**/*.py")]:
        text = path.read_text("utf-8")
        if not re.search(r"\b(tenant_key|object_key)\(", text):
            continue
        tree = ast.parse(text)
        constants = dict(_constants(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                kind = _CALLS.get(node.func.id)
                # The stores that can forget are given theirs by the services' lists.
                if kind and "/meshwright_common/erasure/" not in str(path):
                    yield f"{kind}:{_word(node.args[1], constants, path)}"


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the module's texts by name; of a tuple of texts the first one."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            texts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            value = texts[0] if texts else None
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(value, ast.Constant) and isinstance(target, ast.Name):
                yield target.id, str(value.value)


def _word(argument: ast.expr, constants: dict[str, str], path: Path) -> str:
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    name = argument.value if isinstance(argument, ast.Starred) else argument
    assert isinstance(name, ast.Name), f"{path}: name the family by a word or a constant"
    return constants[name.id]
