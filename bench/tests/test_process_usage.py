"""CPU and memory are those of the whole tree."""

import os
import subprocess
import sys

import pytest

from bench.process_usage import cpu_seconds, memory, parse_pss, parse_stat, tree


def test_stat_with_a_strange_name_is_read() -> None:
    numbers = ["S", "41", *["0"] * 9, "100", "50", "20", "10", *["0"] * 30]

    stat = parse_stat(f"42 (post (gres) x) {' '.join(numbers)}")

    ticks = os.sysconf("SC_CLK_TCK")
    assert (stat.pid, stat.name, stat.parent) == (42, "post (gres) x", 41)
    assert stat.cpu_seconds == pytest.approx(180 / ticks)


def test_pss_is_in_bytes() -> None:
    assert parse_pss("00-ff ---p [rollup]\nRss:  9 kB\nPss:     7 kB\n") == 7 * 1024
    with pytest.raises(ValueError, match="Pss"):
        parse_pss("Rss: 9 kB\n")


def test_tree_counts_grandchildren() -> None:
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    leaf = "sum(range(3_000_000)); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", nested, leaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"

        pids = [stat.pid for stat in tree(process.pid)]
        measured = memory(process.pid)

        assert pids[0] == process.pid
        assert len(pids) == 2
        assert measured.processes == 2
        assert measured.pss_bytes > 1024 * 1024
        assert cpu_seconds(process.pid) > 0
        process.communicate(b"\n", timeout=5)
