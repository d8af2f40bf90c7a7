"""Commands of operators take the settings of the services beside which they are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshwright_cli.exits import CommandError, Exit
from meshwright_cli.first_start import OPERATOR
from meshwright_cli.operator_calls import operate
from meshwright_common.identity.keys import ensure_keys


def set_all(monkeypatch: pytest.MonkeyPatch, folder: Path, registry: str) -> None:
    ensure_keys(folder / "keys", [OPERATOR])
    for name, value in {
        "IDENTITY__KEYS_DIR": str(folder / "keys"),
        "REGISTRY__URL": registry,
        "RPC__LISTEN": "0.0.0.0:50051",
        "PEERS__SESSION": "ipv4:127.0.0.1:1",
    }.items():
        monkeypatch.setenv(f"MESHWRIGHT_{name}", value)


def test_a_registry_is_asked_by_an_operator_that_has_nothing_to_announce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services that listen everywhere have to say where others reach them; nobody calls this."""
    set_all(monkeypatch, tmp_path, "consul://127.0.0.1:1")
    with pytest.raises(CommandError) as told:
        operate(tmp_path, lambda operator: operator.tenant("acme"))
    assert told.value.code == Exit.NOT_RUNNING


def test_a_wrong_address_of_the_registry_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, tmp_path, "consul+tls://nowhere.invalid:1")
    monkeypatch.setenv("MESHWRIGHT_REGISTRY__CA_FILE", str(tmp_path / "no-such-file"))
    with pytest.raises(CommandError, match="MESHWRIGHT_REGISTRY__") as told:
        operate(tmp_path, lambda operator: operator.tenant("acme"))
    assert told.value.code == Exit.REFUSED
