"""How the platform is configured and started for a measurement: the only place that knows."""

import json
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.processes import Child, Placement, ProcessError, child
from meshwright_common.storage.bootstrap import DATABASE
from meshwright_common.storage.embedded.postgres import SUPERUSER

COLD_START_SECONDS = 120.0
_READY = r"^ready (?P<url>http://\S+) key=\S+\s*$"


def configuration(upstream_url: str) -> dict[str, object]:
    """Return the platform's configuration: one model, served by the simulated provider."""
    deployment = {
        "name": "sim",
        "provider": "openai",
        "model": "sim",
        "base_url": f"{upstream_url}/v1",
        "api_key": "sk-sim",
    }
    return {"models": {"deployments": [deployment], "default": "sim"}}


def environment() -> dict[str, str]:
    """Return settings under which one client may send as much as there is load.

    All limits are looked at and counted as ever; they are only far away.
    """
    limits = "MESHWRIGHT_GATEWAY__LIMITS"
    far = str(10_000_000)
    return {
        f"{limits}__WHOLE__PER_SECOND": far,
        f"{limits}__WHOLE__BURST": far,
        f"{limits}__ADDRESS__PER_SECOND": far,
        f"{limits}__TIERS__ENTERPRISE__PER_MINUTE": far,
        f"{limits}__TIERS__ENTERPRISE__CONCURRENT": far,
        f"{limits}__ROUTES__CHAT__PER_MINUTE": far,
        f"{limits}__ROUTES__AGENTS__PER_MINUTE": far,
        f"{limits}__ROUTES__SEARCH__PER_MINUTE": far,
    }


UNSHED = {"MESHWRIGHT_GATEWAY__LOAD__LEAST": "5000", "MESHWRIGHT_GATEWAY__LOAD__MOST": "5000"}
"""Nobody is refused for being too many: what becomes of a surge is a figure of its own."""


def executable() -> str:
    """Return the path of the `meshwright` command. Raises: ProcessError when not installed."""
    beside = Path(sys.executable).parent / "meshwright"
    found = str(beside) if beside.exists() else shutil.which("meshwright")
    if found is None:
        raise ProcessError(
            "the command `meshwright` is not installed here: run `make setup`, or choose other "
            "targets with --targets direct,relay"
        )
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def superuser_url(data: Path) -> str:
    """Return the URL of a running platform's own PostgreSQL for whoever owns its data folder."""
    password = json.loads((data / "secrets.json").read_text())["postgres"]
    port = (data / "postgres" / "postmaster.pid").read_text().splitlines()[3]
    return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{DATABASE}"


@dataclass(frozen=True, slots=True)
class RunningPlatform:
    """The platform, ready."""

    url: str
    api_key: str
    child: Child


@contextmanager
def platform(
    data: Path,
    *,
    upstream_url: str,
    split: bool,
    place: Placement,
    sheds_load: bool = False,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RunningPlatform]:
    """Run the platform on a data folder (made when missing) until the block ends.

    `settings` are further environment variables of it.

    Raises: ProcessError when it is not installed or does not get ready in time.
    """
    data.mkdir(parents=True, exist_ok=True)
    config = data.parent / f"{data.name}.config.yaml"
    # JSON is YAML.
    config.write_text(json.dumps(configuration(upstream_url)))
    command = [executable(), "up", "--data", str(data), "--port", str(_free_port())]
    if split:
        command.append("--split")
    with child(
        command,
        ready=_READY,
        cores=place.system,
        timeout_seconds=COLD_START_SECONDS,
        environment={
            "MESHWRIGHT_CONFIG": str(config),
            **environment(),
            **({} if sheds_load else UNSHED),
            **settings,
        },
    ) as running:
        endpoint = json.loads((data / "endpoint.json").read_text())
        yield RunningPlatform(str(endpoint["url"]), str(endpoint["api_key"]), running)
