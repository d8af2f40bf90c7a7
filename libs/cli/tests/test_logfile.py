"""The platform's log is bounded and private."""

from __future__ import annotations

from pathlib import Path

from meshwright_cli.logfile import LogFile


def test_a_full_log_is_started_anew_and_one_former_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "platform.log", max_bytes=100)
    for number in range(40):
        log.write(f"line {number:04}\n")
    log.close()
    former = (tmp_path / "platform.log.1").read_text().splitlines()
    assert former[-1] == "line 0032"
    assert (tmp_path / "platform.log").read_text().splitlines()[0] == "line 0033"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["platform.log", "platform.log.1"]


def test_a_log_is_continued_and_for_its_owner_alone(tmp_path: Path) -> None:
    for text in ("first\n", "second \udcff\n"):
        log = LogFile(tmp_path / "platform.log")
        log.write(text)
        log.close()
    assert (tmp_path / "platform.log").read_text() == "first\nsecond \\udcff\n"
    assert (tmp_path / "platform.log").stat().st_mode & 0o777 == 0o600
