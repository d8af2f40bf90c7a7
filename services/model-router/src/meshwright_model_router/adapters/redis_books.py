"""The books of tenants in Redis: operations that come while a call is under way share the next.

Nobody waits for a timer: a lone operation leaves at once, and a busy replica pays one round trip
for many. Each tenant's operations are one script, done in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeAlias

import orjson
from redis.exceptions import NoScriptError, ResponseError

from meshwright_common.clock import Clock
from meshwright_common.storage.redis import (
    CacheUnavailable,
    RedisClient,
    tenant_key,
    translated_errors,
)
from meshwright_model_router.adapters import budget_scripts as scripts
from meshwright_model_router.adapters.budget_scripts import Script
from meshwright_model_router.domain.budgets import Counted

FAMILY: Final = "budget"
PLATFORM: Final = "00000000-0000-0000-0000-000000000000"
"""No tenant: whose key says which tenants hold something."""
Operation: TypeAlias = Sequence[object]
MOST_NOTED: Final = 10_000
MOST_ASKED: Final = 1000
"""Days that replicas are asked for at once."""
ASKED_SECONDS: Final = 60
"""How long it stays asked for; a call that still waits asks again."""
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script answered to one operation, and when by the server's clock.

    `ended`: there are reservations of the tenant whose lease has run out.
    """

    value: Any
    now_milliseconds: int
    day: date
    ended: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What Redis counts on a day, and the reservations that are not settled. None: no such day.

    `told`: for which epoch of the day each replica told what its calls hold.
    """

    now_milliseconds: int
    generation: str
    epoch: str
    is_stale: bool
    is_lost: bool
    told: Mapping[str, str]
    counts: Mapping[str, int] | None
    unsettled: Sequence[str]


@dataclass(slots=True, eq=False)
class _Waiting:
    operation: Operation
    answer: asyncio.Future[Answer]


class RedisBooks:
    """Does operations of `adapters.budget_scripts`. `lease_milliseconds` are of what it holds."""

    def __init__(self, client: RedisClient, clock: Clock, lease_milliseconds: int) -> None:
        self._client = client
        self._clock = clock
        self._lease = lease_milliseconds
        self._waiting: dict[str, list[_Waiting]] = {}
        self._noted: dict[str, float] = {}
        self._sender: asyncio.Task[None] | None = None

    def do(self, tenant_id: str, operation: Operation) -> asyncio.Future[Answer]:
        """Have an operation done, soon. The answer raises CacheUnavailable when it is not known."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        # Whoever left early does not fetch the failure.
        answer.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._waiting.setdefault(tenant_id, []).append(_Waiting(operation, answer))
        if self._sender is None:
            # A context of its own: it sends for many callers.
            # house: naked-task: kept until nothing waits; `close` awaits it
            self._sender = asyncio.create_task(self._send_all(), context=Context())
        return answer

    async def close(self) -> None:
        """Wait until everything was sent."""
        if self._sender is not None:
            await self._sender

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._send(batch)
        finally:
            self._sender = None

    async def _send(self, batch: Mapping[str, Sequence[_Waiting]]) -> None:
        days = _days(self._clock.now())
        first = (days[0] - _EPOCH).days
        calls = [
            (
                scripts.BOOK,
                [*_keys(tenant_id), *(day_key(tenant_id, day) for day in days)],
                [orjson.dumps([self._lease, first, [one.operation for one in waiting]])],
            )
            for tenant_id, waiting in batch.items()
        ]
        try:
            with translated_errors():
                await self._note_holders(list(batch))
                answers = await self._evaluate(calls)
        except CacheUnavailable as error:
            answers = [error] * len(batch)
        for waiting, answer in zip(batch.values(), answers, strict=True):
            _tell(waiting, answer)

    async def _note_holders(self, tenants: Sequence[str]) -> None:
        """Note who may hold something, before it does: a sweep looks there."""
        now = self._clock.monotonic()
        due = [one for one in tenants if now - self._noted.get(one, 0) > self._lease / 2000]
        if not due:
            return
        at = int(self._clock.now().timestamp() * 1000)
        scores = [part for one in due for part in (at, one)]
        await self._client.execute_command("ZADD", _holders_key(), *scores)
        if len(self._noted) > MOST_NOTED:
            self._noted.clear()
        self._noted.update(dict.fromkeys(due, now))

    async def _evaluate(
        self, calls: Sequence[tuple[Script, Sequence[str], Sequence[bytes | str | int]]]
    ) -> list[Any]:
        """Return the answers of scripts, or the errors in their place."""
        answers = await self._exchange(calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            # A server that is empty, or new in a cluster. What others did stays done.
            again = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            for text in {calls[i][0].text for i in again}:
                await self._client.script_load(text)
            second = await self._exchange([calls[i] for i in again])
            for i, answer in zip(again, second, strict=True):
                answers[i] = answer
        return answers

    async def _exchange(
        self, calls: Sequence[tuple[Script, Sequence[str], Sequence[bytes | str | int]]]
    ) -> list[Any]:
        if len(calls) == 1:
            script, keys, arguments = calls[0]
            try:
                return [
                    await self._client.execute_command(
                        "EVALSHA", script.sha1, len(keys), *keys, *arguments
                    )
                ]
            except ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipeline:
            for script, keys, arguments in calls:
                _ = pipeline.execute_command("EVALSHA", script.sha1, len(keys), *keys, *arguments)
            return await pipeline.execute(raise_on_error=False)

    async def _one(
        self, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]
    ) -> Any:
        with translated_errors():
            (answer,) = await self._evaluate([(script, keys, arguments)])
            if isinstance(answer, Exception):
                raise answer
        return answer

    async def ping(self) -> None:
        """Raises: CacheUnavailable."""
        with translated_errors():
            await self._client.execute_command("PING")

    async def open_day(
        self, tenant_id: str, day: date, *, is_lost: bool, close: bool = False
    ) -> None:
        """Begin a day that is not there; it counts when `correct` was done.

        `is_lost`: all replicas must tell first what their calls hold. `close` does so with a day
        that is there. Raises: CacheUnavailable.
        """
        arguments = (int(is_lost), scripts.KEPT_MILLISECONDS, int(close))
        await self._one(scripts.OPEN, [day_key(tenant_id, day)], arguments)

    async def ask_to_tell(self, tenant_id: str, day: date) -> None:
        """Ask all replicas to tell what their calls hold of a day. Raises: CacheUnavailable."""
        now = int(self._clock.now().timestamp())
        with translated_errors():
            await self._client.execute_command(
                "ZREMRANGEBYSCORE", _asked_key(), "-inf", now - ASKED_SECONDS
            )
            await self._client.execute_command(
                "ZADD", _asked_key(), now, f"{tenant_id}/{day.isoformat()}"
            )

    async def ask_no_longer(self, tenant_id: str, day: date) -> None:
        """All have told. Raises: CacheUnavailable."""
        with translated_errors():
            await self._client.execute_command(
                "ZREM", _asked_key(), f"{tenant_id}/{day.isoformat()}"
            )

    async def asked_to_tell(self) -> Sequence[tuple[str, date]]:
        """Return whose days are asked for. Raises: CacheUnavailable."""
        with translated_errors():
            found = await self._client.execute_command("ZRANGE", _asked_key(), 0, MOST_ASKED)
        pairs = [_text(one).split("/") for one in found]
        return [(tenant_id, date.fromisoformat(day)) for tenant_id, day in pairs]

    async def look(self, tenant_id: str, day: date) -> Look:
        """Return what is counted, and what is held, at one moment. Raises: CacheUnavailable."""
        keys = [*_keys(tenant_id), day_key(tenant_id, day)]
        now, pairs, unsettled = await self._one(scripts.LOOK, keys, ())
        fields = dict(zip([name.decode() for name in pairs[::2]], pairs[1::2], strict=True))
        ready, stale = fields.pop("ready", None), fields.pop("stale", None)
        generation, epoch = fields.pop("generation", b""), fields.pop("epoch", b"")
        lost = fields.pop("lost", None)
        told = {name for name in fields if name.startswith("t:")}
        return Look(
            now_milliseconds=int(now),
            generation=generation.decode(),
            epoch=epoch.decode(),
            is_stale=stale is not None,
            is_lost=lost is not None,
            told={name.removeprefix("t:"): fields.pop(name).decode() for name in told},
            counts=None if ready is None else {name: int(one) for name, one in fields.items()},
            unsettled=[one.decode() for one in unsettled],
        )

    async def correct(
        self, tenant_id: str, day: date, generation: str, differences: Mapping[str, int]
    ) -> bool:
        """Add differences that a look of this generation found; return whether it still held.

        Raises: CacheUnavailable.
        """
        arguments = [generation, *(part for pair in differences.items() for part in pair)]
        answer = await self._one(scripts.CORRECT, [day_key(tenant_id, day)], arguments)
        return int(answer) == 1

    async def take_ended(self, tenant_id: str, count: int) -> Sequence[tuple[str, bytes]]:
        """Return reservations whose lease ran out, with what is known of them, once a lease.

        Raises: CacheUnavailable.
        """
        taken = await self._one(scripts.TAKE, _keys(tenant_id), (self._lease, count))
        return [(one.decode(), held) for one, held in zip(taken[::2], taken[1::2], strict=True)]

    async def idle_holders(self, count: int) -> Mapping[str, str]:
        """Return tenants that nobody has booked for in a lease, with what `forget_holder` needs.

        Raises: CacheUnavailable.
        """
        before = int(self._clock.now().timestamp() * 1000) - self._lease
        with translated_errors():
            found = await self._client.execute_command(
                *("ZRANGEBYSCORE", _holders_key(), "-inf", before, "WITHSCORES"),
                *("LIMIT", 0, count),
            )
        pairs = [(one[0], one[1]) for one in found] if _is_nested(found) else _pairs(found)
        return {_text(tenant): _score(score) for tenant, score in pairs}

    async def forget_holder(self, tenant_id: str, noted: str) -> bool:
        """Forget a tenant that holds nothing, unless it was noted anew; return whether it did.

        Raises: CacheUnavailable.
        """
        with translated_errors():
            leases, _ = _keys(tenant_id)
            if await self._client.execute_command("EXISTS", leases):
                return False
        return int(await self._one(scripts.FORGET, [_holders_key()], (tenant_id, noted))) == 1


def _is_nested(found: Sequence[Any]) -> bool:
    """Redis' newer protocol answers pairs, the older one member and score in turn."""
    return bool(found) and isinstance(found[0], (list, tuple))


def _pairs(found: Sequence[Any]) -> Sequence[tuple[Any, Any]]:
    return list(zip(found[::2], found[1::2], strict=True))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _score(value: Any) -> str:
    return str(int(float(_text(value))))


def _tell(waiting: Sequence[_Waiting], answer: Any) -> None:
    if isinstance(answer, Exception):
        for one in waiting:
            if not one.answer.done():
                one.answer.set_exception(_translated(answer))
        return
    now, day, ended, values = orjson.loads(answer)
    today = _EPOCH + timedelta(days=day)
    for one, value in zip(waiting, values, strict=True):
        if not one.answer.done():
            one.answer.set_result(Answer(value, now, today, bool(ended)))


def _translated(error: Exception) -> Exception:
    try:
        with translated_errors():
            raise error
    except CacheUnavailable as translated:
        return translated
    except ResponseError as refused:
        # A script that a full server or a wrong clock stops: nothing was done.
        return CacheUnavailable("The budgets cannot be counted now.", cause=str(refused))


def _days(now: datetime) -> Sequence[date]:
    today = now.astimezone(UTC).date()
    return [today + timedelta(days=offset) for offset in range(-1, scripts.DAYS - 1)]


def _holders_key() -> str:
    return tenant_key(PLATFORM, FAMILY, "holders")


def _asked_key() -> str:
    return tenant_key(PLATFORM, FAMILY, "asked")


def _keys(tenant_id: str) -> list[str]:
    return [tenant_key(tenant_id, FAMILY, "leases"), tenant_key(tenant_id, FAMILY, "attempts")]


def day_key(tenant_id: str, day: date) -> str:
    """Return the key of what is counted on a day."""
    return tenant_key(tenant_id, FAMILY, day.isoformat())


def day_number(day: date) -> int:
    """Return a day as the scripts count them."""
    return (day - _EPOCH).days


def settling(reservation_id: str, counted: Counted) -> Operation:
    """Return the operation that settles a reservation."""
    return ["s", reservation_id, counted.tokens, counted.micro_usd]
