"""Feature O8: the weight of a process or agent follows its load."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from meshwright_common.registry.cgroup import Cgroup
from meshwright_common.registry.load import CallTally, LoadMeter, weight


@pytest.mark.parametrize(
    ("cpu_free", "memory_free", "pending", "error_rate", "expected"),
    [
        (1.0, 1.0, 0, 0.0, 85),
        (0.0, 0.0, 0, 0.0, 50),
        (0.5, 0.2, 3, 0.0, 48),
        (1.0, 1.0, 0, 0.5, 35),
        (1.0, 1.0, 100, 0.0, 1),
        (1.0, 1.0, 0, 1.0, 1),
        (7.0, 7.0, -9, -1.0, 85),
        (math.nan, math.nan, 0, 0.0, 50),
        (1.0, 1.0, 0, math.nan, 1),
    ],
)
def test_weight_follows_the_formula_and_stays_between_1_and_100(
    cpu_free: float, memory_free: float, pending: int, error_rate: float, expected: int
) -> None:
    """O8: 50 + 20·cpu_free + 15·mem_free - 5·pending - 100·error_rate."""
    assert expected == weight(cpu_free, memory_free, pending, error_rate)


def test_errors_count_for_a_minute() -> None:
    """O8: the error rate is that of the last minute."""
    now = 1000.0
    tally = CallTally(least_calls=1, monotonic=lambda: now)
    for failed in (True, True, False, False):
        tally.began()
        tally.ended(failed=failed)
    assert 0.5 == tally.error_rate()
    now += 30
    tally.began()
    tally.ended(failed=False)
    assert 0.4 == tally.error_rate()
    now += 31
    assert 0.0 == tally.error_rate()
    assert 0 == tally.running


def test_one_error_of_one_call_is_no_rate_of_all() -> None:
    """O8: a process that just started is not judged by its first call."""
    tally = CallTally(least_calls=20)
    tally.began()
    assert 1 == tally.running
    tally.ended(failed=True)
    assert 0.05 == tally.error_rate()


def test_meter_reads_shares_of_this_machine() -> None:
    """O8: CPU and memory are measured, pending and errors are asked for."""
    load = LoadMeter(lambda: 3, lambda: 0.25).read()
    assert 0.0 <= load.cpu_free <= 1.0
    assert 0.0 < load.memory_free <= 1.0
    assert (3, 0.25) == (load.pending, load.error_rate)


def test_limits_of_a_container_are_its_measure(tmp_path: Path) -> None:
    """O8: in a container with limits, free means free of its own limit; cgroup version 2."""
    now = 10.0
    write = _writer(tmp_path)
    write(
        {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 1\ninactive_file 200"}
    )
    write({"cpu.max": "50000 100000", "cpu.stat": "usage_usec 1000000\nuser_usec 5"})
    cgroup = Cgroup(tmp_path, monotonic=lambda: now)
    assert 0.5 == cgroup.memory_free()
    assert cgroup.cpu_free() is None
    now += 2.0
    write({"cpu.stat": "usage_usec 1250000\nuser_usec 5"})
    # Half a core for 2 s is 1 s of CPU, of which a quarter was used.
    assert 0.75 == cgroup.cpu_free()


def test_limits_of_an_older_container_are_its_measure(tmp_path: Path) -> None:
    """O8: the same with cgroup version 1."""
    now = 10.0
    write = _writer(tmp_path)
    write({"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "750"})
    write({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"})
    write({"cpuacct/cpuacct.usage": "1000000000"})
    cgroup = Cgroup(tmp_path, monotonic=lambda: now)
    assert 0.25 == cgroup.memory_free()
    assert cgroup.cpu_free() is None
    now += 1.0
    write({"cpuacct/cpuacct.usage": "1500000000"})
    assert 0.75 == cgroup.cpu_free()


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory.max": "max", "memory.current": "5", "cpu.max": "max 100000"},
        {
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "memory/memory.usage_in_bytes": "5",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
        {"memory.max": "0", "memory.current": "x", "cpu.max": "1 0"},
    ],
)
def test_without_limits_the_machine_is_the_measure(tmp_path: Path, files: dict[str, str]) -> None:
    """O8: no limit, no files, or files that say nothing sensible."""
    _writer(tmp_path)(files)
    cgroup = Cgroup(tmp_path)
    assert cgroup.memory_free() is None
    assert cgroup.cpu_free() is None


def _writer(root: Path) -> Callable[[dict[str, str]], None]:
    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{text}\n", encoding="ascii")

    return write
