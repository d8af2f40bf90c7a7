"""Containers of image_platform.py: what compose.yaml says of a service, said to podman.

The project comes from Compose's own reader. A key of a service that is neither said to podman nor
known to mean nothing here is an error, so that nothing is left out in silence. All share one
network of the loopback: each has an address of it instead of a network of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

SAID: Final = frozenset(
    {
        *("image", "entrypoint", "command", "environment", "user", "volumes", "tmpfs"),
        *("read_only", "cap_drop", "security_opt", "deploy", "depends_on"),
        *("healthcheck", "stop_grace_period"),
    }
)
NOTHING_HERE: Final = frozenset(
    # One network for all; images are built before; nothing is restarted, so that an end is seen.
    {"build", "logging", "network_mode", "networks", "ports", "profiles", "restart"}
)
EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - what is replaced
HEALTHY_SECONDS: Final = 120.0
LOOK_EVERY_SECONDS: Final = 0.2
STATUS: Final = (r"^Uid:\s+10001\s", r"^CapBnd:\s+0+$", r"^NoNewPrivs:\s+1$", r"^Seccomp:\s+2$")
"""What the kernel says of a process without rights."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def expect(truth: object, said: object) -> None:
    """Give up unless it is true. Raises: SystemExit with what was seen instead."""
    if not truth:
        raise SystemExit(f"not as promised: {said}")


def grace_seconds(service: Mapping[str, Any]) -> int:
    """Return how long compose.yaml lets a service drain."""
    told = re.fullmatch(r"(?:(\d+)m)?(\d+)s", str(service["stop_grace_period"]))
    expect(told, service["stop_grace_period"])
    return 60 * int(told[1] or 0) + int(told[2]) if told else 0


@dataclass(frozen=True, slots=True)
class Podman:
    """The images and containers below a folder, and nobody else's."""

    folder: Path
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The address of each name."""

    def run(
        self, *words: str, check: bool = True, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of podman. Raises: CalledProcessError when it fails and `check`."""
        own = [f"--root={self.folder}/store", f"--runroot={self.folder}/run"]
        own += [f"--tmpdir={self.folder}/runtime", "--storage-driver=overlay"]
        own += ["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"]
        done = subprocess.run(
            [str(shutil.which("podman")), *own, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            # There is no systemd to ask: the commands of HEALTHCHECK are run by us.
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "DISABLE_HC_SYSTEMD": "true",
            },
        )
        if check and done.returncode != 0:
            raise SystemExit(f"podman {' '.join(words[:2])}: {done.stdout}\n{done.stderr}")
        return done

    def start(self, name: str, service: Mapping[str, Any], *, detached: bool) -> str:
        """Start a service of the project as compose.yaml says; without `detached`, to its end.

        Returns what it printed.
        """
        unknown = service.keys() - SAID - NOTHING_HERE
        if unknown:
            raise SystemExit(f"{name}: nobody told podman of {', '.join(sorted(unknown))}")
        words = ["run", "--name", name, "--network=host", "--pull=never"]
        words += ["--detach"] if detached else ["--rm"]
        words += [f"--add-host={host}:{address}" for host, address in self.hosts.items()]
        words += self._isolation(service) + self._volumes(service.get("volumes", ()))
        address = self.hosts.get(name, EVERY_ADDRESS)
        for variable, value in (service.get("environment") or {}).items():
            words += ["--env", f"{variable}={value.replace(EVERY_ADDRESS, address)}"]
        if service.get("entrypoint"):
            words += ["--entrypoint", json.dumps(service["entrypoint"])]
        command = service.get("command") or ()
        return self.run(*words, f"localhost/{service['image']}", *command).stdout

    def wait_until_healthy(self, name: str, began: float) -> None:
        """Return when the image's HEALTHCHECK is content, and say when that was."""
        while self.run("healthcheck", "run", name, check=False).returncode != 0:
            running = self.run("inspect", "--format={{.State.Running}}", name).stdout == "true\n"
            if not running or time.monotonic() - began > HEALTHY_SECONDS:
                raise SystemExit(f"{name} did not get healthy:\n{self.logs(name)}")
            time.sleep(LOOK_EVERY_SECONDS)
        say(f"{name:13} healthy after {time.monotonic() - began:.1f} s")

    def see_confinement(self, name: str, address: str) -> None:
        """See from inside that it has no rights and writes to nothing but its own places."""
        status = self.run("exec", name, "cat", "/proc/1/status").stdout
        for line in STATUS:
            expect(re.search(line, status, re.MULTILINE), status)
        for place in ("/x", "/etc/x", "/opt/meshwright/x", "/etc/meshwright/keys/x"):
            expect(self.run("exec", name, "touch", place, check=False).returncode != 0, place)
        self.run("exec", name, "touch", "/tmp/x")  # noqa: S108 - in the container
        metrics = httpx.get(f"http://{address}:9464/metrics")
        expect(metrics.status_code == 200, metrics.text)

    def stop(self, name: str, seconds: int) -> tuple[int, float]:
        """Stop it by SIGTERM, and by SIGKILL after so long; return its exit code and the time."""
        began = time.monotonic()
        self.run("stop", f"--time={seconds}", name, seconds=seconds + 60.0)
        code = self.run("inspect", "--format={{.State.ExitCode}}", name).stdout
        return int(code), time.monotonic() - began

    def logs(self, name: str) -> str:
        """Return the end of what it printed."""
        done = self.run("logs", "--tail=60", name)
        return done.stdout + done.stderr

    def say_memory(self) -> None:
        """Print what each container holds, of what it may."""
        told = json.loads(self.run("stats", "--no-stream", "--format=json").stdout)
        for one in sorted(told, key=lambda one: str(one["name"])):
            say(f"{one['name']:13} {one['mem_usage']}, {one['pids']} processes and threads")

    def _isolation(self, service: Mapping[str, Any]) -> list[str]:
        limits = service["deploy"]["resources"]["limits"]
        words = [f"--user={service['user']}", f"--cpus={limits['cpus']}"]
        words += [f"--memory={limits['memory']}", f"--pids-limit={limits['pids']}"]
        words += [f"--cap-drop={one}" for one in service["cap_drop"]]
        # Compose writes the value behind it, podman none.
        words += [f"--security-opt={one.removesuffix(':true')}" for one in service["security_opt"]]
        words += [f"--tmpfs={one}" for one in service["tmpfs"]]
        if service["read_only"]:
            # Only what is named is written to: not the /dev/shm and /run of podman's own idea.
            words += ["--read-only", "--read-only-tmpfs=false"]
        return words

    def _volumes(self, volumes: Sequence[Mapping[str, Any]]) -> list[str]:
        words = []
        for one in volumes:
            source = one["source"]
            if part := one.get("volume", {}).get("subpath"):
                where = self.run("volume", "inspect", "--format={{.Mountpoint}}", source).stdout
                source = f"{where.strip()}/{part}"
            rights = ":ro" if one.get("read_only") else ""
            words += ["--volume", f"{source}:{one['target']}{rights}"]
        return words
