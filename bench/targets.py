"""What is measured: the simulator directly, the raw relay, a peer, the platform as arranged."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.platform_target import platform
from bench.processes import Placement, ProcessError, child, module, repository

PEER_KEY = "sk-bench"
PEER_START_SECONDS = 120.0
_LISTENING = r"^listening 127\.0\.0\.1:(?P<port>\d+)$"


class Target(StrEnum):
    """A thing to measure."""

    DIRECT = "direct"
    """No gateway: the generator against the simulator. The bound of every other figure."""
    RELAY = "relay"
    LITELLM = "litellm"
    """LiteLLM's proxy, tuned, in an environment of its own."""
    PLATFORM = "platform"
    PLATFORM_SPLIT = "platform-split"
    RAW = "raw-client"
    """An engine's client alone, in a loop: the bound of what we build on it."""
    BACKBONE = "backbone"
    WORKER = "worker"
    LANGGRAPH = "langgraph"
    """Its library alone, in its own environment."""
    LANGGRAPH_SERVER = "langgraph-server"
    AEGRA = "aegra"
    CELERY_SOLO = "celery-solo"
    CELERY = "celery-prefork"
    CELERY_RESULTS = "celery-results"
    """One worker of Celery in its own environment; the last one settles late and keeps results."""
    PLAIN = "plain-grpc"
    LINK = "link"
    """Both ways of a call from one process to another."""
    ROUTERS = "routers"
    """Processes of the model router alone."""
    SMALL = "10k-messages"
    LARGE = "1m-messages"
    SHARED = "shared"
    OWN_SCHEMAS = "own-schemas"
    """Shared tables beside the partitions of many tenants with schemas of their own."""
    L1 = "l1"
    """Memory of the process that a session was used in last."""
    L2 = "l2"
    COLD = "cold"
    SESSION = "session"
    """What the session service does in its tables, alone."""

    @property
    def is_platform(self) -> bool:
        """True for the arrangements of the platform."""
        return self in (Target.PLATFORM, Target.PLATFORM_SPLIT)


@dataclass(frozen=True, slots=True)
class RunningTarget:
    """A target that is up. `pid` is the root of its process tree."""

    target: Target
    url: str
    api_key: str
    pid: int


@contextmanager
def simulator(place: Placement) -> Iterator[RunningTarget]:
    """Run the simulated provider on the load's core; its `url` has no /v1."""
    with child(module("bench.upstream_simulator"), ready=_LISTENING, cores=place.load) as running:
        url = f"http://127.0.0.1:{running.ready['port']}"
        yield RunningTarget(Target.DIRECT, url, "sk-sim", running.pid)


@contextmanager
def _relay(upstream_url: str, place: Placement) -> Iterator[RunningTarget]:
    command = module("bench.raw_relay", "--upstream", upstream_url)
    with child(command, ready=_LISTENING, cores=place.system) as running:
        url = f"http://127.0.0.1:{running.ready['port']}"
        yield RunningTarget(Target.RELAY, url, "sk-sim", running.pid)


@contextmanager
def _litellm(upstream_url: str, place: Placement) -> Iterator[RunningTarget]:
    command = [peer_python("litellm"), "bench/peers/litellm_server.py"]
    command += ["--upstream", upstream_url, "--key", PEER_KEY]
    with child(
        command, ready=_LISTENING, cores=place.system, timeout_seconds=PEER_START_SECONDS
    ) as running:
        url = f"http://127.0.0.1:{running.ready['port']}"
        yield RunningTarget(Target.LITELLM, url, PEER_KEY, running.pid)


def peer_python(peer: str) -> str:
    """Return the Python of a peer's environment, installed first where it is missing.

    Raises: ProcessError when it cannot be installed.
    """
    installing = subprocess.run(
        [str(repository() / "infra/dev/peers.sh"), peer],
        cwd=repository(),
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    if installing.returncode:
        raise ProcessError(f"{peer} cannot be installed: see above")
    return installing.stdout.strip()


@contextmanager
def _platform(
    target: Target, upstream_url: str, place: Placement, data: Path
) -> Iterator[RunningTarget]:
    split = target is Target.PLATFORM_SPLIT
    with platform(data, upstream_url=upstream_url, split=split, place=place) as running:
        yield RunningTarget(target, running.url, running.api_key, running.child.pid)


@contextmanager
def running_targets(
    targets: list[Target], *, upstream: RunningTarget, place: Placement, scratch: Path
) -> Iterator[list[RunningTarget]]:
    """Run all targets side by side in the order given; each platform has its own data folder."""
    with ExitStack() as stack:
        running: list[RunningTarget] = []
        for target in targets:
            if target is Target.DIRECT:
                running.append(upstream)
            elif target is Target.RELAY:
                running.append(stack.enter_context(_relay(upstream.url, place)))
            elif target is Target.LITELLM:
                running.append(stack.enter_context(_litellm(upstream.url, place)))
            else:
                data = scratch / target.value
                running.append(stack.enter_context(_platform(target, upstream.url, place, data)))
        yield running
