"""`meshwright keys create`: what docs/kubernetes.md makes Secrets of."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from meshwright_cli.commands.keys import app
from meshwright_common.identity.keys import load_keys
from meshwright_common.identity.signing import load_record_signer
from meshwright_common.settings import SERVICE_NAMES


def test_keys_of_all_services_are_made_once_and_trust_each_other(tmp_path: Path) -> None:
    out = tmp_path / "keys"
    made = CliRunner().invoke(app, ["create", "--out", str(out)])
    assert made.exit_code == 0, made.output
    names = {*SERVICE_NAMES, "operator"}
    assert set(load_keys(out, names).trusted) == names
    assert load_record_signer(out).key_id in json.loads((out / "records_public.json").read_bytes())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert CliRunner().invoke(app, ["create", "--out", str(out)]).exit_code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
