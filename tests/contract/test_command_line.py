"""The command line: what it refuses, with which words and which exit code."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from meshwright_cli.exits import Exit
from meshwright_common.storage.embedded.process import free_port
from meshwright_common.testing.engines import PostgresServer
from tests.asking import ask, eventually, turn_id_of
from tests.platform_process import (
    COMMAND,
    Platform,
    clean_environment,
    member_pid,
    run_command,
    running_platform,
)

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.promise("CLI-01")
def test_up_on_a_port_in_use_says_so_and_starts_nothing(data_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_command("up", "--data", str(data_folder), "--port", str(port))
    assert done.returncode == Exit.REFUSED
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert not (data_folder / "postgres").exists()


@pytest.mark.promise("CLI-01")
def test_up_on_a_folder_that_cannot_be_written_says_so() -> None:
    done = run_command("up", "--data", "/proc/meshwright")
    assert done.returncode != Exit.OK
    assert done.stderr.startswith("error: ")
    assert "/proc/meshwright" in done.stderr
    assert "--data" in done.stderr


@pytest.mark.promise("CLI-01")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MESHWRIGHT_CHAT__SWEEP_SECONDS", "soon"),
        ("MESHWRIGHT_MODELS__BASE_URL", "localhost:11434"),
        ("MESHWRIGHT_ORCHESTRATOR__MAX_STEP", "3"),
        ("MESHWRIGHT_SESION__MAX_CONNECTIONS", "3"),
    ],
)
def test_wrong_settings_are_named_before_anything_starts(
    data_folder: Path, variable: str, value: str
) -> None:
    done = run_command("up", "--data", str(data_folder), environment={variable: value})
    assert done.returncode == Exit.REFUSED
    assert variable in done.stderr
    assert "Traceback" not in done.stderr
    assert not data_folder.exists()


@pytest.mark.promise("CLI-02")
def test_a_second_up_on_the_same_data_names_the_first(
    data_folder: Path, provider_environment: dict[str, str]
) -> None:
    with running_platform(data_folder, environment=provider_environment) as first:
        second = run_command("up", "--data", str(data_folder), "--port", str(first.port + 1))
        assert second.returncode == Exit.REFUSED
        assert str(first.process.pid) in second.stderr
        state = run_command("status", "--data", str(data_folder), "--json")
        assert state.returncode == Exit.OK
        assert json.loads(state.stdout)["ready"] is True
        assert run_command("down", "--data", str(data_folder)).returncode == Exit.OK
        assert first.process.wait(10) == Exit.OK
    assert not (data_folder / "endpoint.json").exists()


@pytest.mark.promise("CLI-03")
def test_the_endpoint_is_private_and_the_key_stays_over_restarts(data_folder: Path) -> None:
    keys = []
    for _ in range(2):
        with running_platform(data_folder) as platform:
            endpoint = data_folder / "endpoint.json"
            assert endpoint.stat().st_mode & 0o777 == 0o600
            assert json.loads(endpoint.read_text())["url"] == platform.url
            last_line = data_folder.with_name("data.out").read_text().splitlines()[-1]
            assert last_line == f"ready {platform.url} key={platform.api_key}"
            keys.append(platform.api_key)
            assert platform.stop() == Exit.OK
    assert keys[0] == keys[1]


@pytest.mark.promise("CLI-04")
def test_up_detached_returns_when_ready_and_runs_on(data_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    started = run_command("up", "--detach", "--data", str(data_folder), "--port", str(port))
    try:
        assert started.returncode == Exit.OK, started.stderr
        assert started.stdout.splitlines()[-1].startswith(f"ready http://127.0.0.1:{port} key=mw_")
        assert run_command("status", "--data", str(data_folder)).returncode == Exit.OK
        again = run_command("up", "--detach", "--data", str(data_folder), "--port", str(port))
        assert again.returncode == Exit.REFUSED
        assert "already runs" in again.stderr
    finally:
        stopped = run_command("down", "--data", str(data_folder))
    assert stopped.returncode == Exit.OK


@pytest.mark.promise("CLI-05")
@pytest.mark.parametrize("command", ["down", "status", "chat", "ingest"])
def test_commands_say_that_nothing_runs(data_folder: Path, command: str) -> None:
    question = {"chat": ["Hello"], "ingest": [__file__]}.get(command, [])
    done = run_command(command, *question, "--data", str(data_folder))
    assert done.returncode == Exit.NOT_RUNNING
    assert "meshwright up" in done.stderr or "nothing runs" in done.stderr


@pytest.mark.promise("CLI-05")
@pytest.mark.parametrize("platform", ["together"], indirect=True)
def test_a_wrong_address_and_a_wrong_key_are_told_apart(platform: Platform) -> None:
    absent = run_command("chat", "Hello", "--url", NOWHERE)
    assert absent.returncode == Exit.NOT_RUNNING
    assert NOWHERE in absent.stderr
    refused = run_command("chat", "Hello", "--url", platform.url, "--key", "mw_wrong")
    assert refused.returncode == Exit.FAILED
    assert "UNAUTHENTICATED" in refused.stderr


@pytest.mark.promise("CLI-06")
def test_settings_are_shown_without_their_secrets(tmp_path: Path) -> None:
    file = tmp_path / "meshwright.yaml"
    file.write_text("chat: {sweep_seconds: 7}\n")
    shown = run_command(
        "config",
        "show",
        environment={
            "MESHWRIGHT_CONFIG": str(file),
            "MESHWRIGHT_DATABASE__URL": "postgresql://meshwright_{service}:hush@db/meshwright",
            "MESHWRIGHT_MODELS__BASE_URL": "https://models.example/v1",
            "MESHWRIGHT_MODELS__MODEL": "large",
            "MESHWRIGHT_MODELS__API_KEY": "sk-hush",
        },
    )
    assert shown.returncode == Exit.OK
    assert "hush" not in shown.stdout
    assert "sweep_seconds: 7" in shown.stdout
    assert "models.example" in shown.stdout


@pytest.mark.promise("CLI-07")
def test_the_doctor_names_what_is_wrong_and_what_to_do(data_folder: Path) -> None:
    well = run_command("doctor", "--data", str(data_folder))
    assert well.returncode == Exit.OK, well.stdout
    ill = run_command(
        "doctor",
        "--data",
        str(data_folder),
        environment={
            "MESHWRIGHT_MODELS__BASE_URL": f"{NOWHERE}/v1",
            "MESHWRIGHT_MODELS__MODEL": "large",
        },
    )
    assert ill.returncode == Exit.FAILED
    assert "MESHWRIGHT_MODELS__BASE_URL" in ill.stdout


@pytest.mark.promise("CLI-08")
def test_help_lists_every_command_and_the_exit_codes() -> None:
    shown = run_command("--help", environment={"COLUMNS": "200"})
    assert shown.returncode == Exit.OK
    for word in ("up", "down", "status", "chat", "ingest", "doctor", "serve", "migrate"):
        assert f" {word} " in shown.stdout
    assert "Exit codes: 0 done" in shown.stdout
    assert run_command("fly").returncode == Exit.REFUSED


@pytest.mark.promise("CLI-09")
def test_up_uses_a_database_of_the_operator_and_starts_none(
    data_folder: Path, postgres_server: PostgresServer
) -> None:
    name = f"test_{secrets.token_hex(6)}"
    database = {"MESHWRIGHT_DATABASE__URL": postgres_server.settings_of(name).url}
    superuser = {"MESHWRIGHT_BOOTSTRAP_URL": postgres_server.superuser_url}
    try:
        made = run_command("migrate", environment={**database, **superuser})
        assert made.returncode == Exit.OK, made.stderr
        assert "session: 0001_" in made.stdout
        assert run_command("migrate", environment=database).stdout == "up to date\n"
        with running_platform(data_folder, environment=database) as platform:
            with platform.client() as client:
                answer = ask(client, "What is 17*23+4?")
            assert "395" in answer[-1].data["answer"]
        assert not (data_folder / "postgres").exists()
        assert (data_folder / "valkey").exists()
    finally:
        asyncio.run(postgres_server.drop(name))


@pytest.mark.promise("CLI-10")
def test_services_served_together_join_those_of_other_processes(
    data_folder: Path, tmp_path: Path
) -> None:
    with running_platform(data_folder, split=True) as platform:
        port = free_port()
        variables = {
            **settings_of(member_pid(platform, "chat")),
            "MESHWRIGHT_RPC__LISTEN": f"127.0.0.1:{free_port()}",
            "MESHWRIGHT_GATEWAY__PORT": str(port),
            "MESHWRIGHT_TELEMETRY__METRICS_LISTEN": "",
        }
        # Not configured, and in the same process: reached without a socket.
        del variables["MESHWRIGHT_PEERS__CHAT"]
        log = tmp_path / "serve.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, "serve", "gateway", "chat"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **variables},
            )
        try:
            eventually(lambda: b'"event":"ready"' in log.read_bytes())
            headers = {"authorization": f"Bearer {platform.api_key}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
                answer = ask(client, "What is 17*23+4?")
        finally:
            process.terminate()
            assert process.wait(30) == Exit.OK
        assert "395" in answer[-1].data["answer"]
        with platform.client() as client:
            turn = client.get(f"/api/v1/turns/{turn_id_of(answer)}").json()
        assert turn["answer"] == answer[-1].data["answer"]


def settings_of(pid: int) -> dict[str, str]:
    """Return the settings that a process was started with."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    pairs = (variable.partition("=") for variable in variables)
    return {name: value for name, _, value in pairs if name.startswith("MESHWRIGHT_")}
