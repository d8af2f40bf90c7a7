"""Recording rules name metrics that there are."""

import re
from pathlib import Path

import yaml

from meshwright_common.telemetry import metric_names

RULES = Path(__file__).resolve().parents[3] / "infra" / "observability" / "recording_rules.yml"


def test_rules_name_metrics_that_exist_and_rules_before_them() -> None:
    known = {value for value in vars(metric_names).values() if isinstance(value, str)}
    recorded: set[str] = set()
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            for name in re.findall(r"(?<![:\w])(?:agent:)?meshwright_\w+(?::\w+)?", rule["expr"]):
                assert name in (recorded if ":" in name else known), rule["record"]
            recorded.add(rule["record"])
    assert recorded
