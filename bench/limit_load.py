"""Callers of model routers that want more than a limit allows, and what the stores say of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from meshwright.model_router.v1 import generation_pb2, model_service_pb2
from meshwright.types.v1 import message_pb2
from meshwright_common.errors import QuotaExceeded, ServiceError
from meshwright_common.rpc.stream import open_stream
from meshwright_common.storage.postgres import Database
from meshwright_common.storage.redis import RedisClient, tenant_key
from meshwright_common.storage.tenancy import unit_of_work
from meshwright_common.testing.mesh import calling_as

if TYPE_CHECKING:
    from meshwright.model_router.v1.model_service_pb2_grpc import ModelServiceAsyncStub

OUTPUT_TOKENS: Final = 40
PAUSE_SECONDS: Final = 0.02
MARK: Final = "~"
"""Each token of the simulator has one."""


class Router(Protocol):
    """A router that can be called."""

    @property
    def models(self) -> ModelServiceAsyncStub:
        """Its ModelService."""
        ...


@dataclass
class Peak:
    """What Redis counts of a tenant's tokens today, looked at again and again at one moment."""

    redis: RedisClient
    tenant_id: str
    used: int = 0
    reserved: int = 0
    highest: int = 0
    samples: int = 0

    async def look(self) -> None:
        """Look once: both counts in one command."""
        day = datetime.now(UTC).date().isoformat()
        key = tenant_key(self.tenant_id, "budget", day)
        used, reserved = await self.redis.execute_command("HMGET", key, "tu", "tr")
        self.used, self.reserved = int(used or 0), int(reserved or 0)
        self.highest = max(self.highest, self.used + self.reserved)
        self.samples += 1

    @contextlib.asynccontextmanager
    async def sampled(self) -> AsyncIterator[None]:
        """Look for as long as the block runs."""
        task = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _sample(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.002)


@dataclass
class Callers:
    """Calls of a tenant at routers, chosen by lot: ends, early leaves, paused and failing ones."""

    routers: Callable[[], Sequence[Router]]
    tenant_id: str
    dice: random.Random
    with_faults: bool = False
    """A tenth of the calls fails once before its first token, a twentieth breaks amid its text."""
    outcomes: Counter[str] = field(default_factory=Counter)
    is_refused_for_today: bool = False

    @contextlib.asynccontextmanager
    async def calling(self, count: int) -> AsyncIterator[None]:
        """Call from `count` callers at once until the block is left."""
        tasks = [asyncio.create_task(self._call_on()) for _ in range(count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _call_on(self) -> None:
        while not self.is_refused_for_today:
            try:
                await self.call()
            except ServiceError as error:
                self.outcomes[error.reason] += 1
                if error.reason == QuotaExceeded.reason:
                    # Running calls stand in the way for a second; else it is until midnight.
                    self.is_refused_for_today = (error.retry_after_seconds or 0) > 10
                await asyncio.sleep(PAUSE_SECONDS)

    async def call_together(self, count: int) -> None:
        """Make `count` calls at once, and wait for all of them."""
        ends = await asyncio.gather(*(self.call() for _ in range(count)), return_exceptions=True)
        for end in ends:
            if isinstance(end, ServiceError):
                self.outcomes[end.reason] += 1
            elif isinstance(end, BaseException):
                raise end

    async def call(self) -> None:
        """Make one call. Raises: ServiceError."""
        lot = self.dice.random()
        if lot < 0.2:
            tokens = self.dice.randint(1, 20)
            await self._stream(f"sim-n{OUTPUT_TOKENS}-stall{tokens}", leave_after=tokens)
        elif not self.with_faults:
            await self._stream(f"sim-n{self.dice.randint(5, OUTPUT_TOKENS)}-tps400")
        elif lot < 0.3:
            await self._stream(f"sim-n20-err503-fails1-id:{self.dice.getrandbits(40):x}")
        elif lot < 0.35:
            await self._stream(f"sim-n{OUTPUT_TOKENS}-truncate{self.dice.randint(1, 20)}")
        else:
            await self._stream(f"sim-n{self.dice.randint(5, OUTPUT_TOKENS)}-tps400")

    async def _stream(self, model: str, *, leave_after: int = 0) -> None:
        """Read an answer; leave when so many tokens came and the provider is silent."""
        routers = self.routers()
        if not routers:
            return
        request = model_service_pb2.GenerateRequest(
            model=model,
            messages=[
                message_pb2.Message(
                    role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text="hello there")]
                )
            ],
            options=generation_pb2.GenerationOptions(max_output_tokens=OUTPUT_TOKENS),
        )
        stub = self.dice.choice(routers).models
        with calling_as(self.tenant_id, "model:invoke", timeout_seconds=30):
            async with open_stream(stub.Generate(request)) as responses:
                received = 0
                async for response in responses:
                    received += response.event.delta.text.count(MARK)
                    if 0 < leave_after <= received:
                        # Nothing is on its way unseen.
                        self.outcomes["left"] += 1
                        return
        self.outcomes["completed"] += 1


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """Sums of the router's usage rows of a tenant."""

    rows: int
    lost: int
    counted: int
    prompt_tokens: int
    completion_tokens: int


async def ledger_counts(database: Database, tenant_id: str) -> LedgerCounts:
    """Return the sums; tokens without those of lost requests, which nobody knows."""
    async with unit_of_work(database, tenant_id) as connection:
        row = await connection.fetchrow(_COUNTS, tenant_id)
    return LedgerCounts(**dict(row or {}))


_COUNTS: Final = """
SELECT count(*) AS rows, count(*) FILTER (WHERE outcome = 'lost') AS lost,
       coalesce(sum(counted_tokens), 0)::bigint AS counted,
       coalesce(sum(prompt_tokens) FILTER (WHERE outcome <> 'lost'), 0)::bigint AS prompt_tokens,
       coalesce(sum(completion_tokens) FILTER (WHERE outcome <> 'lost'), 0)::bigint
           AS completion_tokens
  FROM model_router.model_usage WHERE tenant_id = $1
"""
