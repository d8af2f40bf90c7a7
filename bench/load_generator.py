"""Closed-loop and open-loop load, bounded, on loopback only.

    python -m bench.load_generator --url http://127.0.0.1:8080 --kind completion-stream \
        --prompt sim-n200-tps50 --tokens 200 --connections 100 --seconds 10

prints one JSON object (load.LoadReport). The key is read from BENCH_API_KEY.
"""

import argparse
import asyncio
import os
import sys
from array import array
from collections import Counter, deque

import msgspec
import uvloop

from bench.answer_readers import (
    CompletionReader,
    CompletionStreamReader,
    TransitTimes,
    TurnStreamReader,
)
from bench.http_exchange import ClientConnection
from bench.load import (
    LATE_MICROSECONDS,
    MAX_REQUESTS,
    Address,
    Ask,
    Kind,
    Load,
    LoadError,
    LoadReport,
    loopback_address,
)
from bench.openai_wire import STAMP_MODULUS, stamp
from bench.percentiles import summarise

RECONNECTS_PER_CONNECTION = 100
REFUSALS = frozenset({"HTTP 429", "HTTP 503"})


class _Run:
    """One run of a load: hands requests to idle connections until it is over."""

    def __init__(self, address: Address, ask: Ask, load: Load) -> None:
        self.finished = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._ask = ask
        self._load = load
        self._request = ask.request(address)
        self._transit = TransitTimes()
        self._latency = array("I")
        self._refused = array("I")
        self._first_token = array("I")
        self._errors: Counter[str] = Counter()
        self._tokens = 0
        self._sent = 0
        self._under_way = 0
        self._open = True
        self._connections: set[ClientConnection] = set()
        self._reconnecting: set[asyncio.Task[None]] = set()
        self._reconnects_left = RECONNECTS_PER_CONNECTION * load.connections
        self._idle: deque[ClientConnection] = deque()
        self._due: deque[int] = deque()
        self._began = 0
        self._ended = 0

    async def run(self) -> LoadReport:
        """Connect, send, wait for the end, report."""
        try:
            for _ in range(self._load.connections):
                await self._connect()
            self._began = self._ended = stamp()
            self._loop.call_later(self._load.seconds, self._stop)
            if self._load.rate is None:
                self._start_closed_loop()
            else:
                self._start_open_loop(self._load.rate)
            limit = self._load.seconds + self._load.drain_seconds
            try:
                await asyncio.wait_for(self.finished.wait(), limit)
            except TimeoutError:
                self._errors["no answer before the end"] += self._under_way
        finally:
            self._open = False
            for connection in list(self._connections):
                connection.close()
            for task in self._reconnecting:
                task.cancel()
        return self._report()

    async def _connect(self) -> None:
        _, connection = await self._loop.create_connection(
            lambda: ClientConnection(self._idle_again), self._address.host, self._address.port
        )
        self._connections.add(connection)

    async def _reconnect(self) -> None:
        try:
            await self._connect()
        except OSError as problem:
            self._errors[f"cannot connect: {type(problem).__name__}"] += 1
            self._stop()

    def _start_closed_loop(self) -> None:
        waiting, self._idle = list(self._idle), deque()
        step = self._load.ramp_seconds / len(waiting)
        for index, connection in enumerate(waiting):
            if step:
                self._loop.call_later(index * step, self._idle_again, connection)
            else:
                self._idle_again(connection)

    def _start_open_loop(self, rate: float) -> None:
        began = self._loop.time()

        def arrive(number: int) -> None:
            if not self._open or number >= self._load.max_requests:
                self._stop()
                return
            self._due.append(stamp())
            self._dispatch()
            # Each arrival is set from the start, so that a late timer delays no other.
            self._loop.call_at(began + (number + 1) / rate, arrive, number + 1)

        arrive(0)

    def _idle_again(self, connection: ClientConnection) -> None:
        if self._load.rate is not None or not self._began:
            self._idle.append(connection)
            self._dispatch()
        elif self._open and self._sent < self._load.max_requests:
            self._send(connection, stamp())
        else:
            self._open = False

    def _dispatch(self) -> None:
        while self._due and self._idle:
            connection = self._idle.popleft()
            if not connection.closed:
                self._send(connection, self._due.popleft())

    def _send(self, connection: ClientConnection, due: int) -> None:
        """Send; the latency counts from `due`, also when no connection was free then."""
        reader = self._reader()
        self._sent += 1
        self._under_way += 1

        def ended(error: str | None) -> None:
            now = stamp()
            self._under_way -= 1
            self._tokens += reader.tokens
            if error is None:
                self._latency.append((now - due) % STAMP_MODULUS)
                if reader.first_token_at is not None:
                    self._first_token.append((reader.first_token_at - due) % STAMP_MODULUS)
            else:
                self._errors[error] += 1
                if error in REFUSALS:
                    self._refused.append((now - due) % STAMP_MODULUS)
            self._ended = now
            if connection.closed:
                self._replace(connection)
            if not self._under_way and not self._due and self._over():
                self.finished.set()

        connection.send(self._request, reader, ended)

    def _over(self) -> bool:
        return not self._open or self._sent >= self._load.max_requests

    def _stop(self) -> None:
        self._open = False
        if not self._under_way and not self._due:
            self.finished.set()

    def _replace(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        if self._open and self._reconnects_left:
            self._reconnects_left -= 1
            task = self._loop.create_task(self._reconnect())
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)

    def _reader(self) -> CompletionReader | CompletionStreamReader | TurnStreamReader:
        expected = self._ask.expected_tokens
        if self._ask.kind is Kind.COMPLETION:
            return CompletionReader(expected)
        if self._ask.kind is Kind.COMPLETION_STREAM:
            return CompletionStreamReader(self._transit, expected)
        return TurnStreamReader(self._transit, expected)

    def _report(self) -> LoadReport:
        elapsed = max(1, (self._ended - self._began) % STAMP_MODULUS) / 1e6
        transit = self._transit.microseconds
        late = sum(1 for value in transit if value > LATE_MICROSECONDS)
        return LoadReport(
            requests=len(self._latency),
            errors=dict(self._errors),
            elapsed_seconds=elapsed,
            requests_per_second=len(self._latency) / elapsed,
            tokens=self._tokens,
            tokens_per_second=self._tokens / elapsed,
            latency_ms=summarise(self._latency, scale=1e-3),
            refused_ms=summarise(self._refused, scale=1e-3),
            first_token_ms=summarise(self._first_token, scale=1e-3),
            transit_ms=summarise(transit, scale=1e-3),
            late_token_share=late / len(transit) if transit else 0.0,
        )


async def run_load(url: str, ask: Ask, load: Load) -> LoadReport:
    """Run a load against a server on this machine.

    Raises: LoadError when the URL is not loopback; OSError when nothing listens there.
    """
    return await _Run(loopback_address(url), ask, load).run()


def _options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--kind", type=Kind, choices=list(Kind), default=Kind.COMPLETION)
    arguments.add_argument("--prompt", default="sim-n16")
    arguments.add_argument("--model", default="sim")
    arguments.add_argument("--agent", default="chat")
    arguments.add_argument("--tokens", type=int, default=16, help="tokens a right answer has")
    arguments.add_argument("--connections", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--requests", type=int, default=MAX_REQUESTS)
    arguments.add_argument("--rate", type=float, help="requests per second: open loop")
    arguments.add_argument("--ramp", type=float, default=0.0, help="seconds")
    arguments.add_argument("--drain", type=float, default=10.0, help="seconds")
    return arguments.parse_args()


def main() -> None:
    """Run one load and print its report."""
    options = _options()
    try:
        load = Load(
            connections=options.connections,
            seconds=options.seconds,
            max_requests=options.requests,
            rate=options.rate,
            ramp_seconds=options.ramp,
            drain_seconds=options.drain,
        )
        ask = Ask(
            kind=options.kind,
            prompt=options.prompt,
            model=options.model,
            agent=options.agent,
            expected_tokens=options.tokens,
            api_key=os.environ.get("BENCH_API_KEY", "sk-sim"),
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run_load(options.url, ask, load))
    except (LoadError, OSError) as problem:
        sys.exit(f"load generator: {problem}")
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


if __name__ == "__main__":
    main()
