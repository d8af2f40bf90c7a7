"""The steps of starting and of stopping a process, in their order."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc.aio

from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.erasure.servicer import add_store_erasure
from meshwright_common.health import Health
from meshwright_common.registry.ports import Instance, Registrar
from meshwright_common.rpc.local_server import LocalServer
from meshwright_common.rpc.server import ServiceTableError, create_server, verify_services
from meshwright_common.settings import SERVICE_NAMES, CommonSettings, SettingsError
from meshwright_common.telemetry.logging import get_logger

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_logger = get_logger(__name__)


class StartRefused(Exception):
    """A check did not pass in time. The text names each and its last error."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A process that takes calls: the port of gRPC and the full names of its services."""

    port: int
    services: tuple[str, ...]


class Lifecycle:
    """Starts and stops the apps of one process. `stop` is set when it should end.

    With `credentials` its port speaks TLS.
    """

    def __init__(
        self,
        settings: CommonSettings,
        local_server: LocalServer,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        registrar: Registrar,
        stop: asyncio.Event,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._settings = settings.lifecycle
        self._rpc = settings.rpc
        self._local_server = local_server
        self._interceptors = interceptors
        self._registrar = registrar
        self._stop = stop
        self._credentials = credentials
        self._apps: Sequence[App] = ()
        self._health: Health | None = None
        self._server: grpc.aio.Server | None = None
        self._instance: Instance | None = None
        self._tasks: dict[asyncio.Task[None], BackgroundTask] = {}

    async def start(self, apps: Sequence[App]) -> int:
        """Register and serve `apps`, pass their checks, start their tasks, announce the process.

        Returns the port of gRPC.
        Raises: SettingsError, ServiceTableError, AddressError, StartRefused.
        """
        _refuse_unknown_work(self._settings.work, apps)
        self._apps = apps
        for app in apps:
            app.register(self._local_server)
            missing = set(app.service_names) - set(self._local_server.services)
            if missing:
                raise ServiceTableError(f"{app.name} did not register {', '.join(sorted(missing))}")
        if stores := {app.name: app.stores for app in apps if app.stores}:
            # Once for all services of the process: each request names whose stores it means.
            add_store_erasure(self._local_server, stores)
        verify_services(self._local_server)
        services = tuple(self._local_server.services)
        self._health = Health(services)
        self._server, port = await create_server(
            self._local_server,
            self._rpc,
            interceptors=self._interceptors,
            health=self._health,
            credentials=self._credentials,
        )
        await self._server.start()
        checks = {f"{app.name}: {check.name}": check for app in apps for check in app.checks}
        await _pass_checks(checks, self._settings.checks_timeout_seconds)
        for app in apps:
            for task in app.tasks:
                if task.apart and not {"*", task.name} & set(self._settings.work):
                    continue
                # house: naked-task: held, watched by `wait` and ended by `stop`
                self._tasks[asyncio.create_task(_run_task(task), name=task.name)] = task
        await self._health.serve()
        host = self._rpc.listen.rpartition(":")[0]
        # Set first: a signal in between must find what there is to take back.
        self._instance = Instance(
            {app.name: app.address or f"{host}:{port}" for app in apps if app.name in SERVICE_NAMES}
        )
        await self._registrar.register(self._instance)
        return port

    async def wait(self) -> bool:
        """Wait for a signal or a failed task. Returns whether a task failed."""
        # house: naked-task: over when this returns
        signalled = asyncio.create_task(self._stop.wait())
        try:
            while True:
                await asyncio.wait({signalled, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                ended = [task for task in self._tasks if task.done()]
                failed = [task for task in ended if task.cancelled() or task.exception()]
                for task in ended:
                    del self._tasks[task]
                if failed:
                    return True
                if signalled.done():
                    return False
        finally:
            signalled.cancel()

    async def stop(self) -> None:
        """Take all steps of the shutdown that the start makes necessary. Raises nothing."""
        if self._instance is not None:
            await self._guarded("deregister", self._registrar.deregister(self._instance))
        if self._health is not None:
            await self._health.shut_down()
        if self._instance is not None:
            for app in reversed(self._apps):
                if app.leave is not None:
                    app.leave()
            # Load balancers notice now; calls that they still send are served.
            await asyncio.sleep(self._settings.drain_delay_seconds)
            for app in reversed(self._apps):
                if app.drain is not None:
                    await self._guarded(f"drain {app.name}", app.drain())
        await self._stop_tasks()
        grace = self._settings.grace_seconds
        if self._server is not None:
            await asyncio.gather(self._server.stop(grace), self._local_server.stop(grace))

    async def _stop_tasks(self) -> None:
        for running, task in self._tasks.items():
            if task.stop is None:
                running.cancel()
            else:
                task.stop()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self._settings.join_timeout_seconds)
        for running in late:
            _logger.warning("task_cancelled", task=running.get_name())
            running.cancel()
        if late:
            await asyncio.wait(late, timeout=self._settings.join_timeout_seconds)

    async def _guarded(self, step: str, work: Awaitable[None]) -> None:
        """Do one step of the shutdown; the next ones do not depend on its success."""
        try:
            async with asyncio.timeout(self._settings.grace_seconds):
                await work
        # house: broad-except: the next steps of the shutdown do not depend on this one
        except Exception:
            _logger.exception("stop_step_failed", step=step)


def _refuse_unknown_work(work: Sequence[str], apps: Sequence[App]) -> None:
    """Refuse names of no work of the apps: what a typing error leaves undone nobody would see."""
    known = {task.name for app in apps for task in app.tasks if task.apart}
    if unknown := sorted(set(work) - known - {"*"}):
        there_is = ", ".join(sorted(known)) or "nothing"
        raise SettingsError(
            f"MESHWRIGHT_LIFECYCLE__WORK: no such work here: {', '.join(unknown)}; "
            f"what may run apart is {there_is}"
        )


async def _run_task(task: BackgroundTask) -> None:
    try:
        await task.run()
    except Exception:
        _logger.exception("task_failed", task=task.name)
        raise
    _logger.info("task_ended", task=task.name)


async def _pass_checks(checks: Mapping[str, Check], seconds: float) -> None:
    waiting = dict.fromkeys(checks, "no answer")
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for name, check in checks.items():
                group.create_task(_pass_check(name, check, waiting))
    except TimeoutError:
        raise StartRefused(
            "not ready in time: "
            + "; ".join(f"{name}: {error}" for name, error in sorted(waiting.items()))
        ) from None


async def _pass_check(name: str, check: Check, waiting: dict[str, str]) -> None:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            await check.probe()
        # house: broad-except: whatever a probe raises means "not yet"
        except Exception as error:
            if waiting[name] != str(error):
                _logger.info("check_waits", check=name, error=str(error))
            waiting[name] = str(error)
        else:
            del waiting[name]
            return
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
