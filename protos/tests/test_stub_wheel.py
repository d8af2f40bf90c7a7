"""Other teams install one wheel with two dependencies and can call every service."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")

IMPORT_EVERYTHING = """
import importlib, pkgutil, meshwright, meshwright_credentials
for package in (meshwright, meshwright_credentials):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-build-isolation", "--python", sys.executable)
    run(UV, "build", "--wheel", *offline, "--out-dir", folder, PROTOS)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_typed_stubs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"meshwright/py.typed", "meshwright_credentials/py.typed"} <= names
    assert {
        "meshwright/chat/v1/chat_service_pb2_grpc.py",
        "meshwright/chat/v1/chat_service_pb2_grpc.pyi",
    } <= names
    folders = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert folders == {"meshwright", "meshwright_credentials"}


@pytest.mark.timeout(180)  # two libraries are fetched at the first use
@pytest.mark.parametrize("resolution", ["lowest", "highest"])
def test_every_module_imports_beside_the_oldest_and_the_newest_dependencies(
    wheel: Path, tmp_path: Path, resolution: str
) -> None:
    """The range that pyproject.toml states is true: generated code checks it when imported."""
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    run(UV, "venv", "--python", sys.executable, environment)
    run(UV, "pip", "install", "--python", python, "--resolution", resolution, wheel)
    imported = run(python, "-I", "-W", "error", "-c", IMPORT_EVERYTHING).splitlines()
    stubs = {path.stem for path in (PROTOS / "gen").rglob("*_pb2*.py")}
    assert stubs <= {name.rpartition(".")[2] for name in imported}


def run(*command: str | Path) -> str:
    """Run `command` and return its output; a failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
