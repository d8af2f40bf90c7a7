"""`Budgets` on Redis: all budgets of an attempt are held in one step, or none is.

Redis counts, PostgreSQL knows. A day that Redis does not have is counted from the ledger before
anything is given out; when Redis had it before and lost it, what calls hold that still run here and
elsewhere is held again first. While Redis is away, parts of the ledger's rest are given out, or
nothing: `adapters.budget_shares`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol

from meshwright_common.clock import Clock
from meshwright_common.errors import QuotaExceeded, Unavailable
from meshwright_common.ids import new_id
from meshwright_common.storage.redis import CacheUnavailable
from meshwright_common.telemetry.logging import get_logger
from meshwright_model_router.adapters import attempt_log, budget_metrics
from meshwright_model_router.adapters.budget_opening import DayOpening
from meshwright_model_router.adapters.budget_refusals import (
    FREED_SECONDS,
    MICRO_USD,
    TOKENS,
    exceeded,
    share_exceeded,
)
from meshwright_model_router.adapters.budget_replicas import Replicas
from meshwright_model_router.adapters.budget_shares import LocalShares, Who, fingerprint
from meshwright_model_router.adapters.budget_truth import TENANT
from meshwright_model_router.adapters.held import Held, Holdings
from meshwright_model_router.adapters.leasing import Leasing
from meshwright_model_router.adapters.redis_books import Answer, RedisBooks, settling
from meshwright_model_router.adapters.redis_lanes import Place, RedisLanes
from meshwright_model_router.domain.budget_rules import Ask, Limits, Rules
from meshwright_model_router.domain.budgets import (
    NOTHING,
    WHOLE,
    Attempt,
    BudgetState,
    Counted,
    Estimate,
    Hold,
    Reservation,
)
from meshwright_model_router.domain.errors import LimitsUnavailable

PATIENCE_SECONDS: Final = 15.0
"""How long a call waits until what Redis lost is counted again."""
PATIENCE_AWAY_SECONDS: Final = 5.0
"""How long a call waits for replicas to agree that Redis is away."""
AGREED_AGAIN_SECONDS: Final = 0.05
_logger = get_logger(__name__)


class TenantLimits(Protocol):
    """What plans and agreements say."""

    async def of(self, tenant_id: str) -> Limits:
        """Return a tenant's limits; those of users are the rules'. Raises: Unavailable."""
        ...


class RedisBudgets:
    """`Budgets`. Its background work is `adapters.budget_keeping`."""

    def __init__(  # noqa: PLR0913 - what it stands on
        self,
        books: RedisBooks,
        opening: DayOpening,
        shares: LocalShares,
        lanes: RedisLanes,
        limits: TenantLimits,
        rules: Rules,
        clock: Clock,
        *,
        replicas: Replicas,
        leasing: Leasing,
        when_away: Literal["share", "refuse"],
        holdings: Holdings,
    ) -> None:
        self._books = books
        self._opening = opening
        self._shares = shares
        self._limits = limits
        self._rules = rules
        self._clock = clock
        self._when_away = when_away
        self._lanes = lanes
        self._replicas = replicas
        self._switching = asyncio.Lock()
        self._absences = 0
        self._leaving: set[asyncio.Task[None]] = set()
        self._unsettled: dict[tuple[str, str], Counted] = {}
        self._away_since: float | None = None
        self._changed = asyncio.Event()
        self.leasing = leasing
        self.holdings = holdings

    async def reserve(self, attempt: Attempt, estimate: Estimate) -> Reservation:
        try:
            limits = await self._limits.of(attempt.tenant_id)
            prices = attempt.deployment.prices.at(self._clock.now())
            ask = self._rules.ask(attempt, estimate, prices, limits)
            return await self._reserve_placed(attempt, ask, bounded=bool(estimate.output_tokens))
        except (LimitsUnavailable, QuotaExceeded):
            raise
        except Unavailable as error:
            _logger.warning("budgets_not_counted", reason=error.reason)
            raise LimitsUnavailable(retry_after_seconds=FREED_SECONDS) from error

    async def _reserve_placed(self, attempt: Attempt, ask: Ask, *, bounded: bool) -> Held:
        """Take a place at the deployment first: it has another slot, and is given back if the
        budgets have no room. Raises: as `reserve`."""
        place = await self._lanes.enter(
            attempt.deployment, new_id(), ask.prompt_tokens + ask.output_tokens
        )
        if place is None:
            return await self._reserve(attempt, ask, bounded=bounded)
        try:
            held = await self._reserve(attempt, ask, bounded=bounded)
        except BaseException:
            self._leave(place, 0)
            raise
        held.place = place
        return held

    def _leave(self, place: Place, tokens: int) -> None:
        # A context of its own, as the books' sender: nobody waits for it.
        # house: naked-task: kept in _leaving until done, which is a command of Redis
        task = asyncio.create_task(self._lanes.leave(place, tokens), context=Context())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Wait until places that were given back are told."""
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _reserve(self, attempt: Attempt, ask: Ask, *, bounded: bool) -> Held:
        limits = ask.limits
        # Without any limit it is only counted, and nobody's answer is cut.
        is_limited = bool(limits.tenant_tokens or limits.tenant_micro_usd or limits.user_tokens)
        who = Who(attempt.tenant_id, attempt.user_id, fingerprint(attempt.user_id))
        began = self._clock.monotonic()
        while True:
            is_away = self._away_since is not None
            try:
                if not self._replicas.is_valid:
                    await self._register()
                    continue
                if is_away:
                    held = await self._reserve_away(attempt, ask, who)
                else:
                    held = await self._reserve_there(attempt, ask, who)
            except LimitsUnavailable:
                raise
            except Unavailable:
                # The ledger did not answer in time: many calls may be waiting for it.
                if self._clock.monotonic() - began > PATIENCE_AWAY_SECONDS:
                    raise
                await asyncio.sleep(AGREED_AGAIN_SECONDS)
                continue
            if held is not None:
                if not (is_limited or bounded):
                    held.output_tokens = 0
                self.holdings.add(held)
                return held
            patience = PATIENCE_AWAY_SECONDS if is_away else PATIENCE_SECONDS
            if self._clock.monotonic() - began > patience:
                raise LimitsUnavailable(retry_after_seconds=FREED_SECONDS)

    async def _register(self) -> None:
        """Be known to the others before anything is granted here; they may have gone on without
        this process when it was late. Raises: Unavailable."""
        async with self._switching:
            if not await self._replicas.ensure():
                return
            self._opening.be_cautious()
            if self._away_since is None:
                try:
                    for tenant_id in self.holdings.tenants():
                        await self._opening.hold_again(tenant_id)
                except CacheUnavailable:
                    self.note_away()

    async def _reserve_there(self, attempt: Attempt, ask: Ask, who: Who) -> Held | None:
        """Reserve in Redis; None: try again. Raises: QuotaExceeded, Unavailable."""
        try:
            await self._opening.check(who.tenant_id, self._shares.today())
        except CacheUnavailable:
            self.note_away()
            return None
        reservation_id = new_id()
        absences = self._absences
        logged = attempt_log.encode(attempt, ask.prompt_tokens, ask.output_tokens)
        limits = ask.limits
        operation = (
            *("r", reservation_id, who.fingerprint),
            *(ask.prompt_tokens, ask.output_tokens, ask.least_output_tokens),
            *(ask.thousandths, ask.input_price, ask.output_price),
            *(limits.tenant_tokens, limits.tenant_micro_usd, limits.user_tokens, logged),
        )
        try:
            answer = await asyncio.shield(self._books.do(who.tenant_id, operation))
        except CacheUnavailable:
            # It may have been done all the same, and nobody will use it.
            self.settle_later(who.tenant_id, reservation_id, NOTHING)
            self.note_away()
            return None
        except asyncio.CancelledError:
            self.settle_later(who.tenant_id, reservation_id, NOTHING)
            raise
        if answer.ended:
            self._opening.note_ended(who.tenant_id)
        status, *rest = answer.value
        if status == 1:
            output, tokens, micro_usd, *gone, epoch = rest
            if not (
                self._replicas.is_valid
                and self._absences == absences
                and self._opening.belongs(who.tenant_id, answer.day, epoch)
            ):
                # What was told to others since does not contain it, and nothing was sent for it.
                self.settle_later(who.tenant_id, reservation_id, NOTHING)
                try:
                    await self._opening.tell_again(who.tenant_id, answer.day)
                except CacheUnavailable:
                    self.note_away()
                return None
            self._shares.note_seen(who, answer.day, *gone)
            hold = Hold(
                reservation_id,
                answer.day,
                answer.now_milliseconds,
                Counted(tokens, micro_usd),
                ask.thousandths,
            )
            return self._held(who, hold, output, logged)
        if status == 0:
            raise exceeded(ask, answer, *rest)
        try:
            await self._opening.open(who.tenant_id, answer.day)
        except CacheUnavailable:
            self.note_away()
        return None

    async def _reserve_away(self, attempt: Attempt, ask: Ask, who: Who) -> Held | None:
        """Reserve without Redis; None: try again, it may be back."""
        if self._when_away == "refuse":
            raise LimitsUnavailable(retry_after_seconds=self.leasing.heartbeat_seconds)
        changed = self._changed
        await self.go_away()
        output = await self._shares.take(who, ask)
        if output is None:
            # Until all replicas have told what their calls hold, nobody knows what is left.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGREED_AGAIN_SECONDS):
                    await changed.wait()
            return None
        if isinstance(output, str):
            scope = "tenant" if output == TENANT else "user"
            raise share_exceeded(ask, scope, self._clock.now(), self.leasing.heartbeat_seconds)
        budget_metrics.SHARED.inc()
        now = self._clock.now()
        hold = Hold(
            new_id(),
            self._shares.today(),
            int(now.timestamp() * 1000),
            ask.counted(output),
            ask.thousandths,
        )
        logged = attempt_log.encode(attempt, ask.prompt_tokens, ask.output_tokens)
        return self._held(who, hold, output, logged)

    def _held(self, who: Who, hold: Hold, output_tokens: int, logged: str) -> Held:
        return Held(
            who.tenant_id,
            who.user_id,
            who.fingerprint,
            hold,
            output_tokens,
            logged,
            self._settle,
        )

    def _settle(self, held: Held, counted: Counted) -> None:
        self.holdings.remove(held)
        if held.place is not None:
            self._leave(held.place, counted.tokens * WHOLE // held.hold.thousandths)
        over = counted.tokens - held.hold.held.tokens
        if over > 0:
            budget_metrics.OVERRUN_TOKENS.inc(over)
        self.settle_later(held.tenant_id, held.hold.reservation_id, counted)

    def settle_later(self, tenant_id: str, reservation_id: str, counted: Counted) -> None:
        """Settle a reservation in Redis, now or when it is back."""
        self._unsettled[tenant_id, reservation_id] = counted
        if self._away_since is None:
            self._send_settling(tenant_id, reservation_id, counted)

    def _send_settling(self, tenant_id: str, reservation_id: str, counted: Counted) -> None:
        answer = self._books.do(tenant_id, settling(reservation_id, counted))

        def done(future: asyncio.Future[Answer]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._unsettled.pop((tenant_id, reservation_id), None)
            else:
                self.note_away()

        answer.add_done_callback(done)

    def settle_all(self) -> None:
        """Send again what Redis did not answer."""
        for (tenant_id, reservation_id), counted in list(self._unsettled.items()):
            self._send_settling(tenant_id, reservation_id, counted)

    @property
    def is_away(self) -> bool:
        """True while Redis is away."""
        return self._away_since is not None

    def note_away(self) -> None:
        """Note that Redis did not answer."""
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
            self._absences += 1
            budget_metrics.AWAY.set(1)
            _logger.warning("budgets_redis_away", when_away=self._when_away)

    async def go_away(self) -> None:
        """Tell the others what runs here, and that this replica does not use Redis: when all say
        so, parts may be given out. Raises: Unavailable."""
        async with self._switching:
            if self._away_since is None or self._shares.is_open:
                return
            await self._shares.declare()
            await self._replicas.tell(is_away=True)
            self._shares.is_open = self._away_since is not None

    async def come_back(self, tenants: Iterable[str]) -> None:
        """Use Redis again: of `tenants` and of those that something was given out of, only when
        all replicas do. Raises: Unavailable."""
        async with self._switching:
            # From here on nothing is given out that is not told below.
            self._shares.is_open = False
            await self._replicas.tell(is_away=False)
            day = self._shares.today()
            for tenant_id in {*tenants, *self._shares.tenants, *self.holdings.tenants()}:
                await self._opening.close_if_shared(tenant_id, day)
                await self._opening.hold_again(tenant_id)
                await self._shares.withdraw(tenant_id)
            self._note_back()

    def _note_back(self) -> None:
        self._away_since = None
        self._opening.be_cautious()
        budget_metrics.AWAY.set(0)
        waited, self._changed = self._changed, asyncio.Event()
        waited.set()
        _logger.info("budgets_redis_back")

    async def states(self, tenant_id: str, user_id: str) -> tuple[list[BudgetState], bool]:
        """Return the budgets of a tenant and of a user of it, and whether Redis is away.

        Raises: Unavailable.
        """
        limits = await self._limits.of(tenant_id)
        day, is_away = self._shares.today(), self.is_away
        mine = fingerprint(user_id)
        counts: Mapping[str, int] = {}
        if not is_away:
            try:
                look = await self._books.look(tenant_id, day)
                counts = look.counts or {}
                if look.counts is None:
                    counts = await self._opening.counted_there(tenant_id, day)
            except CacheUnavailable:
                self.note_away()
                is_away = True
        if is_away:
            counts = await self._opening.counted_here(tenant_id, day)
        reset = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1)

        def state(name: str, scope: str, limit: int, used: str, reserved: str) -> BudgetState:
            return BudgetState(
                name, scope, limit, counts.get(used, 0), counts.get(reserved, 0), reset
            )

        states = [
            state(TOKENS, "tenant", limits.tenant_tokens, "tu", "tr"),
            state(MICRO_USD, "tenant", limits.tenant_micro_usd, "cu", "cr"),
        ]
        if mine:
            states.append(state(TOKENS, "user", limits.user_tokens, f"u:{mine}", f"r:{mine}"))
        return states, is_away
