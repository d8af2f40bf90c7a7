"""What checkov leaves out has a reason, and what modules declare is said in words."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.integration.terraform_plan import TERRAFORM

ROOT: Final = Path(__file__).parents[2]
INFRA: Final = ROOT / "infra"
CONFIG: Final = INFRA / "dev/terraform/checkov.yaml"
SHORTEST: Final = 25
"""Characters: less is no reason."""


@pytest.mark.promise("OPS-TF-07")
def test_every_check_that_is_skipped_everywhere_has_a_reason_above_it() -> None:
    lines = CONFIG.read_text().splitlines()
    skipped = yaml.safe_load(CONFIG.read_text())["skip-check"]
    assert skipped
    for check in skipped:
        at = next(n for n, line in enumerate(lines) if line.strip() == f"- {check}")
        above = takewhile(lambda line: line.startswith("  #"), reversed(lines[:at]))
        assert len("".join(above)) > SHORTEST, check


@pytest.mark.promise("OPS-TF-07")
def test_every_check_that_is_skipped_at_one_place_has_a_reason_there() -> None:
    files = [*INFRA.rglob("*.tf"), *INFRA.rglob("*.yaml"), *ROOT.glob("Dockerfile*")]
    found = 0
    for file in files:
        if file == CONFIG:
            continue
        for skip in re.findall(r"checkov(?:\.io/skip\d+: *|:skip=)(.*)", file.read_text()):
            found += 1
            check, _, reason = skip.strip("\"' ").replace("=", ":", 1).partition(":")
            assert re.fullmatch(r"CKV2?_\w+", check), f"{file}: {skip}"
            assert len(reason.strip()) >= SHORTEST, f"{file}: {skip}"
    assert found


@pytest.mark.promise("OPS-TF-06")
def test_every_variable_and_output_says_what_it_is() -> None:
    for file in TERRAFORM.rglob("*.tf"):
        for kind, name, body in re.findall(
            r'^(variable|output) "(\w+)" \{\n(.*?)^\}', file.read_text(), re.M | re.S
        ):
            assert re.search(r'^  description += "[A-Z<{h].{8,}"$', body, re.M), f"{file}: {name}"
            if kind == "variable":
                assert re.search(r"^  type +=", body, re.M), f"{file}: {name}"


@pytest.mark.promise("OPS-TF-06")
def test_versions_are_bounded_and_charts_exact() -> None:
    for file in TERRAFORM.rglob("versions.tf"):
        text = file.read_text()
        assert 'required_version = ">= 1.11.0, < 2.0.0"' in text, file
        sources = re.findall(r"^      source ", text, re.M)
        bounded = re.findall(r'^      version = "~> \d+\.\d+"$', text, re.M)
        assert len(sources) == len(bounded) > 0, file
    for environment in (TERRAFORM / "envs").iterdir():
        charts = re.search(
            r"chart_versions = \{(.*?)\}", (environment / "main.tf").read_text(), re.S
        )
        assert charts is not None
        versions = re.findall(r'= "(.*)"', charts.group(1))
        assert len(versions) == 7
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
