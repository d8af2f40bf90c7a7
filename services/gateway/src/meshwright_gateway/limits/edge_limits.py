"""The limits of a request at the edge: who it is of, what that allows, and its headers."""

from __future__ import annotations

import hashlib
from typing import Final

from meshwright_common.clock import Clock
from meshwright_common.context import Principal
from meshwright_common.errors import ServiceError
from meshwright_common.quotas import Quotas
from meshwright_common.telemetry.logging import get_logger
from meshwright_gateway.adapters.redis_counters import place_key, rate_key
from meshwright_gateway.errors import RateLimited
from meshwright_gateway.http.exchange import Exchange
from meshwright_gateway.limits.client_address import ClientAddresses
from meshwright_gateway.limits.limit_settings import LimitsSection
from meshwright_gateway.limits.load_shedding import LoadShedding, priority_of
from meshwright_gateway.limits.rates import Rate
from meshwright_gateway.limits.request_limits import Ask, Headers, RequestLimits
from meshwright_gateway.limits.rules import RouteRule, Rules, Tier
from meshwright_gateway.metrics import LIMITS_REFUSED

MOST_ASKS: Final = 20_000
"""Clients and routes that are remembered; then all are forgotten, which costs a little time."""
PLAN_SECONDS: Final = 10.0
"""How long the plan of a tenant is not asked for again."""
UNKNOWN_PLAN_SECONDS: Final = 1.0
_logger = get_logger(__name__)


class EdgeLimits:
    """Lets the requests of an exchange in, or refuses them. One per gateway process."""

    def __init__(
        self,
        section: LimitsSection,
        *,
        requests: RequestLimits,
        load: LoadShedding,
        addresses: ClientAddresses,
        quotas: Quotas,
        clock: Clock,
    ) -> None:
        self.requests = requests
        self.load = load
        self._rules = Rules(section)
        self._addresses = addresses
        self._quotas = quotas
        self._clock = clock
        self._asks: dict[tuple[str, ...], Ask] = {}
        self._plans: dict[str, tuple[str | None, float]] = {}

    def use(self, section: LimitsSection) -> None:
        """From now on these are the limits; what was counted before still counts."""
        self._rules = Rules(section)
        self._asks.clear()

    async def enter(self, exchange: Exchange) -> None:
        """Take the request in hand until its first byte leaves. Raises: Overloaded."""
        if not self.load.try_enter():
            await self.load.enter(priority_of(exchange.path, exchange.headers))
        exchange.load = self.load

    def refuse_blocked(self, exchange: Exchange) -> None:
        """Refuse at once, before anybody is asked who calls, when the address is over its limit.

        Raises: RateLimited.
        """
        if self._rules.section.enabled:
            try:
                self.requests.refuse_blocked(self._stranger(self._address_of(exchange)))
            except RateLimited as refusal:
                raise _told(exchange, refusal) from None

    async def take_unknown(self, exchange: Exchange) -> None:
        """Count a request whose caller was refused, by its address. Raises: RateLimited."""
        if self._rules.section.enabled:
            try:
                await self.requests.take(self._stranger(self._address_of(exchange)))
            except RateLimited as refusal:
                raise _told(exchange, refusal) from None

    async def take(self, exchange: Exchange, caller: Principal) -> None:
        """Let a request in: all its limits allow it and are charged, or none is.

        The answer gets the headers that say what is left. `leave` has to follow.
        Raises: RateLimited.
        """
        try:
            ask, headers = await self.take_as(exchange.method, exchange.path, exchange, caller)
        except RateLimited as refusal:
            exchange.headers_out.extend(refusal.headers)
            raise
        exchange.headers_out.extend(headers)
        if ask is not None:
            exchange.ask, exchange.requests = ask, self.requests

    async def take_as(
        self, method: str, path: str, exchange: Exchange, caller: Principal
    ) -> tuple[Ask | None, Headers]:
        """Let in what stands for a request `method` `path` and came in `exchange`.

        Returns the place, for `requests.leave`, and the headers that say what is left.
        Raises: RateLimited.
        """
        rules = self._rules
        if not rules.section.enabled:
            return None, ()
        route = rules.route(method, path)
        tier = rules.tier_of(await self._plan_of(caller.tenant_id)) if route.is_work else None
        ask = self._ask(self._address_of(exchange), route, tier, caller)
        try:
            headers = await self.requests.take(ask)
        except RateLimited as refusal:
            LIMITS_REFUSED.labels(refusal.metadata["limit"]).inc()
            raise
        return ask if ask.place is not None else None, headers if tier is not None else ()

    # --- what is asked for ------------------------------------------------------------------------

    def _address_of(self, exchange: Exchange) -> str:
        client = exchange.scope.get("client") or ("", 0)
        return self._addresses.group_of(client[0], exchange.headers)

    def _stranger(self, address: str) -> Ask:
        ask = self._asks.get((address,))
        return ask or self._keep((address,), Ask(self._general(address)))

    def _ask(self, address: str, route: RouteRule, tier: Tier | None, caller: Principal) -> Ask:
        if tier is None:
            return self._stranger(address)
        name = (address, route.name, tier.name, caller.tenant_id, caller.subject)
        ask = self._asks.get(name)
        if ask is not None:
            return ask
        user = _digest(caller.tenant_id, caller.subject)
        rates = list(self._general(address))
        if tier.rate is not None:
            rates.append((rate_key("user", user), tier.rate))
        route_rate = self._rules.route_rates.get(route.name)
        if route_rate is not None:
            rates.append((rate_key("user", user, route.name), route_rate))
        place = (place_key("user", user), tier.concurrent) if tier.concurrent else None
        return self._keep(name, Ask(tuple(rates), place))

    def _general(self, address: str) -> tuple[tuple[str, Rate], ...]:
        whole, each = self._rules.whole, self._rules.address
        rates = [] if whole is None else [(rate_key("whole"), whole)]
        if each is not None:
            rates.append((rate_key("address", address), each))
        return tuple(rates)

    def _keep(self, name: tuple[str, ...], ask: Ask) -> Ask:
        if len(self._asks) >= MOST_ASKS:
            self._asks.clear()
        self._asks[name] = ask
        return ask

    async def _plan_of(self, tenant_id: str) -> str | None:
        known = self._plans.get(tenant_id)
        now = self._clock.monotonic()
        if known is not None and now < known[1]:
            return known[0]
        plan: str | None
        try:
            plan = (await self._quotas.of(tenant_id)).plan
        except ServiceError as error:
            _logger.warning("plan_unknown", tenant_id=tenant_id, reason=error.reason)
            plan = None
        if len(self._plans) >= MOST_ASKS:
            self._plans.clear()
        seconds = UNKNOWN_PLAN_SECONDS if plan is None else PLAN_SECONDS
        self._plans[tenant_id] = plan, now + seconds
        return plan


def _told(exchange: Exchange, refusal: RateLimited) -> RateLimited:
    LIMITS_REFUSED.labels(refusal.metadata["limit"]).inc()
    exchange.headers_out.extend(refusal.headers)
    return refusal


def _digest(*words: str) -> str:
    """Return a name for a user's counters that says nothing about the user."""
    return hashlib.blake2b(" ".join(words).encode(), digest_size=12).hexdigest()
