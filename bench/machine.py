"""Facts about the machine and the software that a figure was taken with."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.processes import placement, repository

_PACKAGES = ("uvicorn", "uvloop", "httptools", "aiohttp", "msgspec", "grpcio", "protobuf")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a figure depends on besides the code."""

    processor: str
    cores: int
    memory_mib: int
    kernel: str
    python: str
    packages: dict[str, str]
    load_average: float
    """Of the last minute, before the measurement: other work disturbs the figures."""
    pinned: bool


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> Machine:
    """Look at this machine now."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_mib=pages // 2**20,
        kernel=platform.release().split("-")[0],
        python=platform.python_version(),
        packages=_packages(),
        load_average=round(os.getloadavg()[0], 2),
        pinned=placement().pinned,
    )


def commit() -> str:
    """Return the short commit of the checkout, with `+` when it has changes; else `unknown`."""
    command = ["git", "-C", str(repository()), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return finished.stdout.strip() or "unknown"
