"""Where Prometheus finds the metrics of what `meshwright up` runs."""

import json
from pathlib import Path

import pytest

from meshwright_cli.engines.data_folder import METRICS_FILE, own
from meshwright_cli.exits import CommandError
from meshwright_cli.split import choose_members
from meshwright_common.settings import SERVICE_NAMES


def test_each_member_tells_its_metrics_at_an_address_of_its_own() -> None:
    members = choose_members(instances=2)

    addresses = {one.metrics for one in members} | {one.address for one in members}
    assert len(addresses) == 2 * len(members)


def test_members_have_the_ports_behind_the_one_that_is_set() -> None:
    members = choose_members(metrics_listen="0.0.0.0:9464")

    assert [one.metrics for one in members] == [
        f"0.0.0.0:{port}" for port in range(9465, 9465 + len(SERVICE_NAMES))
    ]


def test_too_few_ports_are_said_by_the_setting() -> None:
    with pytest.raises(CommandError, match="METRICS_LISTEN: behind port 65530"):
        choose_members(metrics_listen="127.0.0.1:65530")


def test_the_file_has_addresses_that_this_machine_reaches_and_goes_with_the_platform(
    tmp_path: Path,
) -> None:
    with own(tmp_path / "data") as folder:
        file = folder.write_metrics_targets([("chat", "0.0.0.0:9465"), ("rag", "[::1]:9466")])

        assert json.loads(file.read_text()) == [
            {"targets": ["127.0.0.1:9465"], "labels": {"service": "chat"}},
            {"targets": ["[::1]:9466"], "labels": {"service": "rag"}},
        ]
    assert not (tmp_path / "data" / METRICS_FILE).exists()
