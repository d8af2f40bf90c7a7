"""What a service's composition root hands to the runner."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc.aio

from meshwright_common.erasure.stored import StoredData


@dataclass(frozen=True, slots=True)
class BackgroundTask:
    """Work beside the calls: a consumer, a reaper, an HTTP server.

    `run` returns when the work is over and raises when it cannot go on, which ends the process
    with exit code 1. `stop` asks `run` to finish what is in flight and to return; without it, or
    when it takes longer than `lifecycle.join_timeout_seconds`, `run` is cancelled. With `apart`
    calls do not need it in their process, so that `lifecycle.work` can give it to other ones.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    stop: Callable[[], None] | None = None
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A condition for serving. `probe` raises while the condition does not hold."""

    name: str
    probe: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class App:
    """One built service: what to serve, what to run beside it, when it is ready.

    `register` is called once with something that behaves like `grpc.aio.Server` for the generated
    `add_…_to_server` functions. `service_names` are the full names of the services it registers.
    `leave` is the first word of the shutdown: new work should go elsewhere, and is still taken
    for `lifecycle.drain_delay_seconds`. `drain` runs after that, while calls are still served: the
    place to end streams that would otherwise outlive the grace period. Apps leave and are drained
    in reverse order. `address` is the "host:port" where it takes requests, if that is not the gRPC
    port of its process. `stores` are all that the service keeps of people: what is to be erased is
    erased in their order.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    service_names: tuple[str, ...] = ()
    tasks: tuple[BackgroundTask, ...] = ()
    checks: tuple[Check, ...] = ()
    drain: Callable[[], Awaitable[None]] | None = None
    leave: Callable[[], None] | None = None
    address: str = ""
    stores: tuple[StoredData, ...] = ()
