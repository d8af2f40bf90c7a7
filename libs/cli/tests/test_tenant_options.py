"""Wrong words about tenants are named before anybody is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshwright_cli.commands.tenants import app
from meshwright_cli.exits import CommandError


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("update", "acme", "--sessions", "-1"), "'-1' is no limit"),
        (("update", "acme", "--sessions", "0"), "unlimited"),
        (("update", "acme", "--tokens-per-day", "many"), "'many' is no limit"),
        (("update", "acme", "--concurrent-turns", str(1 << 31)), "is too large"),
        (("update", "acme", "--plan", "gold"), "gold"),
        (("update", "acme"), "nothing to change"),
        (("suspend", "acme"), "say --yes"),
        (("move", "acme"), "--own-schema"),
    ],
)
def test_a_wrong_word_is_named(
    words: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHWRIGHT_DATA", str(tmp_path))
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code != 0
    told = str(done.exception) if isinstance(done.exception, CommandError) else done.output
    assert named in told
