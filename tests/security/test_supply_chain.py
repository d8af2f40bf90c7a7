"""What is locked and installed: hashes, licences, and code that runs without being imported."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chain() -> ModuleType:
    """The script that `make infra-check` runs; it is no package."""
    spec = importlib.util.spec_from_file_location("chain", ROOT / "infra/dev/supply_chain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed(folder: Path, metadata: str, *files: str) -> Distribution:
    """Return a distribution as an installer leaves it."""
    place = folder / "thing-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n{metadata}\n"
    )
    (place / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    for name in files:
        (folder / name).touch()
    return PathDistribution(place)


@pytest.mark.promise("OPS-SUPPLY-01")
@pytest.mark.parametrize(
    ("entry", "mistake"),
    [
        ("thing>=1.0 \\\n    --hash=sha256:00\n", "no exact version"),
        ("thing==1.0\n    # via other\n", "no hash"),
        ("thing==1.0 \\\n    --hash=md5:00\n", "no hash"),
        ("thing @ https://example.org/thing.whl \\\n    --hash=sha256:00\n", "an address"),
        ("--index-url https://example.org\n", "an address"),
    ],
)
def test_a_lock_without_hash_or_with_an_address_is_refused(
    chain: ModuleType, tmp_path: Path, entry: str, mistake: str
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"other==2.0 \\\n    --hash=sha256:11\n    # via thing\n{entry}")
    (found,) = chain.mistakes_in_lock(lock)
    assert mistake in found


@pytest.mark.promise("OPS-SUPPLY-01")
def test_every_lock_of_ours_has_hashes_and_no_address(chain: ModuleType) -> None:
    locks = [file for pattern in chain.LOCKS for file in ROOT.glob(pattern)]
    assert {"run.txt", "dev.txt", "hadolint.txt", "cyclonedx.txt"} <= {file.name for file in locks}
    for lock in locks:
        assert chain.locked(lock)
        assert not list(chain.mistakes_in_lock(lock))


@pytest.mark.promise("OPS-SUPPLY-02")
@pytest.mark.parametrize(
    ("metadata", "licence", "allowed"),
    [
        ("License-Expression: MIT AND (Apache-2.0 OR BSD-2-Clause)", "", True),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT", True),
        ("License: BSD-3-Clause", "BSD-3-Clause", True),
        ("License-Expression: AGPL-3.0-only", "AGPL-3.0-only", False),
        ("License: Proprietary", "Proprietary", False),
        ("Summary: says nothing", "", False),
    ],
)
def test_a_licence_that_nobody_has_allowed_is_refused(
    chain: ModuleType, tmp_path: Path, metadata: str, licence: str, allowed: bool
) -> None:
    found = chain.licence_of(installed(tmp_path, metadata))
    assert not licence or found == licence
    assert (list(chain.mistakes_of("thing", found)) == []) is allowed


@pytest.mark.promise("OPS-SUPPLY-03")
def test_a_file_that_python_would_run_at_every_start_is_refused(
    chain: ModuleType, tmp_path: Path
) -> None:
    (found,) = chain.startup_files(installed(tmp_path, "", "thing.py", "thing.pth"))
    assert "thing.pth" in found
    assert not list(chain.startup_files(distribution("coverage"))), "on the list"


@pytest.mark.promise("OPS-SUPPLY-02")
@pytest.mark.promise("OPS-SUPPLY-03")
def test_what_is_installed_here_is_as_the_lists_say(chain: ModuleType) -> None:
    assert list(chain.mistakes()) == []


@pytest.mark.promise("OPS-SUPPLY-04")
@pytest.mark.timeout(300)  # the first one on a machine installs cyclonedx
def test_the_bill_of_materials_names_each_locked_distribution_with_its_hashes(
    chain: ModuleType, tmp_path: Path
) -> None:
    bill = tmp_path / "bill.json"
    subprocess.run([ROOT / "infra/dev/sbom.sh", bill], check=True, capture_output=True)
    told = json.loads(bill.read_bytes())
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    names = {one["name"] for one in told["components"]}
    assert {chain.canonicalize_name(name) for name in names} == chain.locked(
        ROOT / "requirements/run.txt"
    )
