"""Run the platform from its images as compose.yaml says, use it, stop it. image_trial.sh calls it.

    python infra/dev/image_platform.py one|core|full --storage FOLDER

`one` is all in one, as docs/images.md starts it. The others are profiles of compose.yaml: keys,
migrations, the seven services, the operator's command, each a container of podman with the user,
read-only root, limits, variables and volumes of compose.yaml (image_containers.py), in the order of
`depends_on`, healthy when the image's HEALTHCHECK says so. Engines: image_engines.py. A simulated
provider is behind one more model, by a models.yaml as docs/models.md has it. Then a tenant asks,
uploads, hands over a task; services are stopped by SIGTERM while an answer is being written.
All of it is in a network namespace of its own. Exits with 0 when everything went as promised, and
prints what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from image_containers import Podman, expect, grace_seconds, say
from image_engines import NAMES, OTHERWISE, engines

from meshwright_common.settings import PREFIX, SERVICE_NAMES
from meshwright_common.testing.servers.namespace import LOOPBACK, enter_namespace
from tests.asking import ask, eventually, indexed
from tests.sse import events, text_of

ROOT: Final = Path(__file__).resolve().parents[2]
ADDRESSES: Final[dict[str, str]] = {
    name: f"127.0.1.{at}" for at, name in enumerate(SERVICE_NAMES, 1)
}
MODEL_PORT: Final = 8900
WORDS: Final = 60
SLOW_MODEL: Final = "slow-mini"
"""An answer that takes four seconds (bench/directives.py); a name that the plan allows."""
MODELS: Final = f"""\
egress: {{private_hosts: ["{LOOPBACK}:{MODEL_PORT}"]}}
deployments:
  - name: slow
    model: {SLOW_MODEL}
    provider_model: sim-n{WORDS}-tps15
    base_url: http://{LOOPBACK}:{MODEL_PORT}/v1
"""
TEXT: Final = b"# Tides\n\nThe harbour of Oldport closes at spring tide.\n"


def environment(profile: str) -> dict[str, str]:
    """Return `.env` as docs/images.md makes it."""
    told = _output([ROOT / "infra/compose/environment.sh", profile])
    variables = dict(line.split("=", 1) for line in told.splitlines())
    return variables | (dict(OTHERWISE) if profile == "full" else {})


def project(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return compose.yaml as Compose's own library reads it with these variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    # Tools are asked for by name.
    told = {**clean, **variables, "COMPOSE_PROFILES": f"{variables['COMPOSE_PROFILES']},tools"}
    reader = _output([ROOT / "infra/dev/compose.sh"]).strip()
    read: dict[str, Any] = json.loads(_output([reader, ROOT / "compose.yaml"], told))
    services: dict[str, Any] = read["services"]
    return services


def _output(command: list[Any], told: dict[str, str] | None = None) -> str:
    return subprocess.run(command, env=told, check=True, stdout=subprocess.PIPE, text=True).stdout


def in_order(services: Mapping[str, Any]) -> list[str]:
    """Return the services of ours, each behind what it depends on."""
    ordered: list[str] = []

    def put(name: str) -> None:
        if name in ordered or name not in SERVICE_NAMES:
            return
        for other in sorted(services[name].get("depends_on", {})):
            put(other)
        ordered.append(name)

    for name in SERVICE_NAMES:
        put(name)
    return ordered


@contextmanager
def provider() -> Iterator[None]:
    """Run the simulated provider."""
    command = (sys.executable, "-m", "bench.upstream_simulator", "--port", str(MODEL_PORT))
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def begin(podman: Podman, services: Mapping[str, Any]) -> None:
    """Make the keys, migrate, start each service when those before it are healthy."""
    for name in ("keys", "migrate", "migrate"):
        began = time.monotonic()
        podman.start(name, services[name], detached=False)
        say(f"{name:13} done in {time.monotonic() - began:.1f} s")
    for name in in_order(services):
        began = time.monotonic()
        podman.start(name, services[name], detached=True)
        podman.wait_until_healthy(name, began)
        podman.see_confinement(name, ADDRESSES[name])


def all_in_one(podman: Podman) -> None:
    """Start the image `cli` alone, twice on one volume, and ask it."""
    words = ("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--volume=meshwright:/data")
    for _ in range(2):
        began = time.monotonic()
        image = "localhost/meshwright/cli"
        podman.run("run", "--detach", "--name=one", "--network=host", "--pull=never", *words, image)
        podman.wait_until_healthy("one", began)
        said = podman.run("exec", "one", "meshwright", "chat", "What is 17.5% of 2480?").stdout
        expect("434" in said, said)
        podman.say_memory()
        code, seconds = podman.stop("one", 120)
        expect(code == 0, podman.logs("one"))
        say(f"{'one':13} ended with 0 {seconds:.1f} s after SIGTERM")
        podman.run("rm", "one")


def first_tenant(podman: Podman, operator: Mapping[str, Any]) -> str:
    """Make a tenant as docs/images.md says, and return its owner's API key."""
    words = ("tenants", "create", "acme", "--plan", "starter", "--owner", "ada")
    said = podman.start("operator", {**operator, "command": words}, detached=False)
    key = re.search(r"mw_\S+", said)
    expect(key, said)
    return key[0] if key else ""


def use(client: httpx.Client) -> None:
    """Ask, calculate, upload and search, hand over a task."""
    seen = ask(client, "What is 17.5% of 2480?")
    expect("434" in text_of(seen), seen[-1])
    expect(any(event.name == "tool.result" for event in seen), [event.name for event in seen])
    document = indexed(client, "sea.md", TEXT)
    expect(document["state"] == "ready", document)
    answer = text_of(ask(client, "When does the harbour of Oldport close?"))
    expect("spring tide" in answer, answer)
    message = {"agent": "chat", "message": "What is 6 times 7?"}
    task = client.post("/api/v1/tasks", json=message).raise_for_status().json()

    def is_over() -> bool:
        task.update(client.get(f"/api/v1/tasks/{task['task_id']}").json())
        return task["state"] in {"completed", "failed", "cancelled", "expired"}

    eventually(is_over)
    expect(task["state"] == "completed", task)
    say("chat, tool, document, search, task: as promised")


def drain(podman: Podman, client: httpx.Client, services: Mapping[str, Any]) -> None:
    """Stop all as Compose does, while an answer is being written: it is written to its end."""
    body = {"message": "Tell me.", "model": SLOW_MODEL}
    with ThreadPoolExecutor(1) as threads:
        with client.stream("POST", "/api/v1/chat", json=body) as response:
            stream = events(response)
            seen = [next(stream)]
            while seen[-1].name != "message.delta":
                seen.append(next(stream))
            stopped = threads.submit(stop_in_order, podman, services)
            seen += stream
        expect(seen[-1].name == "turn.completed", seen[-1])
        words = len(text_of(seen).split())
        expect(words >= WORDS, f"{words} words of {WORDS}")
        say(f"an answer begun before SIGTERM ended whole, {words} words")
        stopped.result()


def stop_in_order(podman: Podman, services: Mapping[str, Any]) -> None:
    """Stop each service when those that depend on it have ended, as Compose does."""
    left = set(in_order(services))
    while left:
        needed = {other for name in left for other in services[name].get("depends_on", {})}
        going = sorted(left - needed)
        with ThreadPoolExecutor(len(going)) as threads:
            stopping = {
                name: threads.submit(podman.stop, name, grace_seconds(services[name]))
                for name in going
            }
        for name, stopped in stopping.items():
            code, seconds = stopped.result()
            expect(code == 0 and '"stopped"' in podman.logs(name), podman.logs(name))
            say(f"{name:13} ended with {code} {seconds:.1f} s after SIGTERM")
        left -= set(going)


def services_apart(podman: Podman, profile: str) -> None:
    """Run a profile of compose.yaml: start, use, stop."""
    variables = environment(profile)
    services = project(variables)
    models = podman.folder / f"models-{profile}.yaml"
    models.write_text(MODELS)
    models.chmod(0o644)
    there = {
        "type": "bind",
        "source": str(models),
        "target": "/etc/meshwright/models.yaml",
        "read_only": True,
    }
    services["model-router"]["volumes"].append(there)
    services["model-router"]["environment"] |= {
        "MESHWRIGHT_MODELS__FILE": str(there["target"]),
        "MESHWRIGHT_MODELS__DEFAULT": "offline",
    }
    with engines(profile, podman.folder / f"engines-{profile}", variables), provider():
        try:
            begin(podman, services)
            header = {"authorization": f"Bearer {first_tenant(podman, services['operator'])}"}
            address = f"http://{ADDRESSES['gateway']}:8080"
            with httpx.Client(base_url=address, headers=header, timeout=60) as client:
                use(client)
                podman.say_memory()
                drain(podman, client, services)
        except BaseException:
            for name in SERVICE_NAMES:
                say(f"=== {name}\n{podman.run('logs', '--tail=15', name, check=False).stderr}")
            raise
        finally:
            # While their stores are there.
            podman.run("rm", "--all", "--force", "--time=1")


def main() -> None:
    """Do it all."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("profile", choices=("one", "core", "full"))
    arguments.add_argument("--storage", type=Path, required=True)
    given = arguments.parse_args()
    enter_namespace()
    podman = Podman(given.storage, {**ADDRESSES, **dict.fromkeys(NAMES, LOOPBACK)})
    say(f"--- {given.profile}")
    try:
        if given.profile == "one":
            all_in_one(podman)
        else:
            services_apart(podman, given.profile)
    finally:
        podman.run("rm", "--all", "--force", "--time=1")
        podman.run("volume", "rm", "--all", "--force")
        shutil.rmtree(given.storage / f"engines-{given.profile}", ignore_errors=True)


if __name__ == "__main__":
    main()
