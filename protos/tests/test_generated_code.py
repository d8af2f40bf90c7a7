"""The stubs in protos/gen are what the protos say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parents[1]
COMPILER = PROTOS.parent / "infra" / "dev" / "protoc.sh"


@pytest.mark.timeout(180)  # the compiler is installed at the first use
def test_generated_code_is_current(tmp_path: Path) -> None:
    python = subprocess.run([COMPILER], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([python, PROTOS / "generate.py", tmp_path], check=True)
    stale = differences(generated(PROTOS / "gen"), generated(tmp_path))
    assert stale == [], "run `make protos` and commit protos/gen"


def generated(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def differences(checked_in: dict[str, bytes], fresh: dict[str, bytes]) -> list[str]:
    """Return the paths that are in one only, or differ."""
    paths = sorted(checked_in.keys() | fresh.keys())
    return [path for path in paths if checked_in.get(path) != fresh.get(path)]
