"""House rules that no linter knows, read from the syntax tree of everything written by hand.

A line that must break a rule says so and why, on the line itself or on the one above:
`# house: <name of the rule>: <reason>`. The name alone is not enough.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

MAX_FILE_LINES = 400
"""Above it, a file holds two subjects; the aim is 80 to 300."""

ESCAPE = re.compile(r"#\s*house:\s*(?P<rule>[a-z-]+):\s*\S{3,}")
SQL_STATEMENT = re.compile(r"\s*(select|insert|update|delete|with|merge)\b", re.IGNORECASE)
CREATED_TABLE = re.compile(
    r"create\s+table\s+(?:if\s+not\s+exists\s+)?([\w.]+)\s*\((.*?)\n\)", re.IGNORECASE | re.DOTALL
)
USED_TABLE = re.compile(r"\b(?:from|join|into|update)\s+(?:only\s+)?([\w.]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A parsed file: its path from the root of the repository, and the tables that have tenants."""

    name: str
    text: str
    tree: ast.Module
    tenant_tables: frozenset[str]

    def excuses(self, rule: str, node: ast.stmt | ast.expr | ast.excepthandler) -> bool:
        """Say whether an escape comment stands above, on or inside the lines of `node`."""
        lines = self.text.splitlines()[max(node.lineno - 2, 0) : node.end_lineno]
        found = (ESCAPE.search(line) for line in lines)
        return any(match and match["rule"] == rule for match in found)


Rule = Callable[[Source], Iterator[ast.expr | ast.excepthandler]]


def wall_clock(source: Source) -> Iterator[ast.expr]:
    """The wall clock jumps when it is corrected: durations come from `Clock.monotonic`, and
    moments from `Clock.now`, so that a test can set both.
    """
    for call in calls(source):
        if ast.unparse(call.func) in {"time.time", "time.time_ns", "datetime.utcnow"}:
            yield call


def naked_task(source: Source) -> Iterator[ast.expr]:
    """Nobody awaits a task without an owner: its error is lost, it may be collected half-way and
    it outlives the shutdown. Tasks live in a TaskGroup.
    """
    for call in calls(source):
        name = ast.unparse(call.func)
        if name in {"asyncio.create_task", "asyncio.ensure_future"} or (
            name.endswith(".create_task") and "loop" in name.lower()
        ):
            yield call


def own_transaction(source: Source) -> Iterator[ast.expr]:
    """`unit_of_work` sets the tenant for row-level security and ends the transaction: one that is
    begun or committed elsewhere runs without a tenant, or commits half a use case.
    """
    if source.name.startswith(
        ("libs/common/src/meshwright_common/storage/", "libs/common/src/meshwright_common/events/")
    ):
        return
    for call in calls(source):
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if method in {"commit", "transaction"} and not call.args:
            yield call


def tenantless_sql(source: Source) -> Iterator[ast.expr]:
    """Row-level security is the second lock. The first is that every statement on a table with a
    tenant names `tenant_id`, which is also what makes it use the index.
    """
    for text, node in string_constants(source):
        if SQL_STATEMENT.match(text) and "tenant_id" not in text.lower():
            used = {name.lower().split(".")[-1] for name in USED_TABLE.findall(text)}
            if used & source.tenant_tables:
                yield node


def broad_except(source: Source) -> Iterator[ast.excepthandler]:
    """A broad handler hides bugs as if they were outages. Only the boundaries that turn every
    failure into an answer may have one: runner, workers, consumers and interceptors.
    """
    if Path(source.name).stem in {
        "runner", "worker", "workers", "consumer", "consumers", "interceptors",
    }:  # fmt: skip
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            reraises = any(isinstance(step, ast.Raise) and not step.exc for step in node.body)
            if re.search(r"\b(Base)?Exception\b", caught) and not reraises:
                yield node


RULES: dict[str, Rule] = {
    "wall-clock": wall_clock,
    "naked-task": naked_task,
    "own-transaction": own_transaction,
    "tenantless-sql": tenantless_sql,
    "broad-except": broad_except,
}

BROKEN_ON_PURPOSE = {
    "wall-clock": "started = time.time()",
    "naked-task": "asyncio.create_task(work())",
    "own-transaction": "async with connection.transaction(): pass",
    "tenantless-sql": "await c.fetch('SELECT id FROM things WHERE id = $1')",
    "broad-except": "try:\n    work()\nexcept Exception:\n    pass",
}


@pytest.mark.parametrize("rule", RULES)
def test_code_keeps_the_house_rule(rule: str) -> None:
    broken = [f"{source.name}:{line}" for source in sources() for line in violations(rule, source)]
    assert broken == [], f"{rule}: {RULES[rule].__doc__}"


@pytest.mark.parametrize("rule", RULES)
def test_house_rule_notices_what_it_forbids(rule: str) -> None:
    assert [*violations(rule, parsed(BROKEN_ON_PURPOSE[rule]))] != []


@pytest.mark.parametrize("rule", RULES)
def test_escape_needs_the_name_of_the_rule_and_a_reason(rule: str) -> None:
    bad, good = f"# house: {rule}:", f"# house: {rule}: the reason why"
    tree = "\n" + BROKEN_ON_PURPOSE[rule]
    statement = ast.parse(tree).body[0]
    assert not parsed(bad + tree).excuses(rule, statement)
    assert parsed(good + tree).excuses(rule, statement)
    assert not parsed("# house: another-rule: the reason why" + tree).excuses(rule, statement)


def test_no_file_grows_two_subjects() -> None:
    """A file over the limit is split by subject, not by length."""
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in written_by_hand("src", "tests")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    }
    assert too_long == {}


def violations(rule: str, source: Source) -> Iterator[int]:
    """Yield the lines of `source` that break `rule` without an escape comment."""
    for node in RULES[rule](source):
        if not source.excuses(rule, node):
            yield node.lineno


def calls(source: Source) -> Iterator[ast.Call]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))


def string_constants(source: Source) -> Iterator[tuple[str, ast.expr]]:
    """Yield each string literal once; the parts of an f-string joined, its values as `{}`."""
    parts: set[ast.AST] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            literal = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield "".join(map(str, literal)), node
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.value, node


def tenant_tables() -> frozenset[str]:
    """Return the names, without schema, of the tables whose migration gives them a `tenant_id`."""
    migrations = [*ROOT.glob("services/*/src/*/migrations/*.sql"), *ROOT.glob("libs/**/*.sql")]
    return frozenset(
        name.lower().split(".")[-1]
        for path in migrations
        for name, columns in CREATED_TABLE.findall(path.read_text(encoding="utf-8"))
        if "tenant_id" in columns.lower()
    )


@cache
def sources() -> list[Source]:
    tables = tenant_tables()
    return [
        Source(str(path.relative_to(ROOT)), text, ast.parse(text), tables)
        for path in written_by_hand("src")
        if (text := path.read_text(encoding="utf-8"))
    ]


def parsed(text: str) -> Source:
    return Source("snippet.py", text, ast.parse(text), frozenset({"things"}))


def written_by_hand(*folders: str) -> Iterator[Path]:
    """Yield the Python files below protos/, libs/*/ and services/*/ in these folders."""
    for member in (ROOT / "protos", *ROOT.glob("libs/*"), *ROOT.glob("services/*")):
        for folder in folders:
            yield from sorted((member / folder).rglob("*.py"))
