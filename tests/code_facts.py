"""What the services' code says about itself, for tests that compare other files with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

from meshwright_common.settings import SERVICE_NAMES
from meshwright_session.erasure_parts import PEERS_WITH_STORES

SERVICES: Final = Path(__file__).parents[1] / "services"
_OPENS: Final = re.compile(r'(?<!    channel = )channels\.open\("([a-z-]+)"\)')
_READS: Final = re.compile(r"\bsettings\.(database|redis|events|dispatch|encryption|objects)\b")


def sources(service: str) -> Iterator[Path]:
    """Yield the Python files of a service."""
    yield from sorted((SERVICES / service / "src").glob("**/*.py"))


@cache
def text_of(service: str) -> str:
    """Return the whole code of a service."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sources(service))


@cache
def calls() -> set[tuple[str, str]]:
    """Return who calls whom: (caller, callee)."""
    edges = {(one, peer) for one in SERVICE_NAMES for peer in _OPENS.findall(text_of(one))}
    edges |= {("session", peer) for peer in PEERS_WITH_STORES}
    # Every process reports the calls that it denied (rpc/denial_reports.py).
    edges |= {(one, "session") for one in SERVICE_NAMES}
    return {(caller, callee) for caller, callee in edges if caller != callee}


@cache
def sections_read(service: str) -> set[str]:
    """Return which of the sections that name stores the code of a service reads."""
    return set(_READS.findall(text_of(service)))


@cache
def work_apart(service: str) -> set[str]:
    """Return the names of background work that may run in processes of its own."""
    names: set[str] = set()
    for path in sources(service):
        text = path.read_text(encoding="utf-8")
        if "apart=True" not in text:
            continue
        module = import_module(".".join(path.relative_to(SERVICES / service / "src").parts)[:-3])
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and any(one.arg == "apart" for one in node.keywords):
                name = node.args[0]
                named = isinstance(name, ast.Constant)
                names.add(ast.literal_eval(name) if named else getattr(module, ast.unparse(name)))
    return names
