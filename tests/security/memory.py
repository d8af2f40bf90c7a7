"""How much memory a running platform holds."""

from __future__ import annotations

from pathlib import Path

from tests.platform_process import Platform

PAGE_BYTES = 4096


def resident_bytes(platform: Platform) -> int:
    """Return the memory of the platform's own processes, without its engines'."""
    return sum(
        int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
        for pid in _family(platform.process.pid)
        if "python" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    )


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(one for child in children for one in _family(int(child)))]
