"""The file system of an image, laid out from what is installed here, and processes in it.

As Dockerfile does it: the distributions that a service needs and no other, the two scripts, user
10001, a read-only root. The base is this machine's, and the installation is the tests' own instead
of one by pip: `infra/dev/image_trial.sh` does all of it for real.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
USER: Final = 10001
SITE: Final = Path(sysconfig.get_path("purelib"))
_PYTHON: Final = Path(sys.base_prefix)
_VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
_MEMBERS: Final = ("protos/gen", "protos/src", "libs/*/src", "services/*/src")


def lay_out(tree: Path, needed: frozenset[str], service: str) -> None:
    """Fill `tree`, which becomes /opt/meshwright, with links that hold inside `inside`."""
    packages = tree / "lib" / _VERSION / "site-packages"
    for name in needed:
        for file in distribution(name).files or ():
            path = packages / file
            # Scripts lie outside; what is ours is a link to its source, below.
            if ".." in file.parts or file.suffix in {".pth", ".pyc"}:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.symlink_to(Path("/mnt/site") / file)
    for number, source in enumerate(_sources()):
        for package in source.iterdir():
            ours = package.name in {"meshwright", "meshwright_credentials", "meshwright_common"}
            if ours or package.name == f"meshwright_{service.replace('-', '_')}":
                (packages / package.name).symlink_to(f"/mnt/sources/{number}/{package.name}")
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "python").symlink_to(f"/mnt/python/bin/{_VERSION}")
    (tree / "pyvenv.cfg").write_text(
        "home = /mnt/python/bin\ninclude-system-site-packages = false\n"
    )


def inside(tree: Path, service: str, keys: Path, variables: dict[str, str]) -> list[str]:
    """Return the command that runs what follows it in the image, on this machine's network.

    `keys` is the folder of signing keys; `variables` are all of the environment but the image's.
    """
    binds = [
        *("--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"),
        *(
            part
            for name in ("bin", "lib", "lib64")
            for part in ("--symlink", f"usr/{name}", f"/{name}")
        ),
        *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108 - in the image
        # Folders that bwrap makes on the way are closed to others.
        *(
            part
            for name in ("/opt", "/mnt", "/mnt/sources")
            for part in ("--perms", "0755", "--dir", name)
        ),
        *("--ro-bind", str(tree), "/opt/meshwright"),
        *("--ro-bind", str(SITE), "/mnt/site", "--ro-bind", str(_PYTHON), "/mnt/python"),
        *(
            "--ro-bind",
            str(ROOT / "infra/images"),
            "/opt/scripts",
            "--ro-bind",
            str(keys),
            "/mnt/keys",
        ),
    ]
    for number, source in enumerate(_sources()):
        binds += ["--ro-bind", str(source), f"/mnt/sources/{number}"]
    environment = {
        "PATH": "/opt/meshwright/bin:/opt/scripts:/usr/bin",
        "LD_LIBRARY_PATH": "/mnt/python/lib",
        "MESHWRIGHT_IMAGE": service,
        "MESHWRIGHT_IDENTITY__KEYS_DIR": "/mnt/keys",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        **variables,
    }
    settings = [part for name, value in environment.items() for part in ("--setenv", name, value)]
    return [
        *("bwrap", *binds, "--remount-ro", "/", "--unshare-pid", "--die-with-parent", "--as-pid-1"),
        *("--clearenv", *settings, *_as_user()),
    ]


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of `inside` to its end; 30 s at most."""
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def started(command: list[str], said: Path) -> subprocess.Popen[bytes]:
    """Start a command of `inside`, which writes into the file `said`; the caller ends it."""
    with said.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return ["--unshare-user", "--uid", str(USER), "--gid", str(USER)]
    return [
        *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
        *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
    ]


def _sources() -> list[Path]:
    return [path for pattern in _MEMBERS for path in sorted(ROOT.glob(pattern))]
