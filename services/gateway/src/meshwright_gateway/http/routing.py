"""The routes that are served without a framework."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from meshwright_gateway.errors import MethodNotAllowed
from meshwright_gateway.http.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]
HandlerOfOne = Callable[[Exchange, str], Awaitable[None]]
"""A handler with the one parameter of its path."""

_SEGMENT: Final = r"([^/]{1,200})"


@dataclass(frozen=True, slots=True)
class _Pattern:
    template: str
    start: str
    matcher: re.Pattern[str]
    handlers: Mapping[str, HandlerOfOne]
    shared: bool


class RawRoutes:
    """A table of paths. `shared`: the framework serves the path's other methods."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._patterns: list[_Pattern] = []

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Serve `method` at exactly `path`."""
        self._exact.setdefault(path, {})[method] = handler

    def add_with_parameter(
        self, method: str, template: str, handler: HandlerOfOne, *, shared: bool = False
    ) -> None:
        """Serve `method` at paths of the form "/a/{name}/b"."""
        matcher = re.compile(re.sub(r"\{\w+\}", _SEGMENT, template))
        start = template.partition("{")[0]
        self._patterns.append(_Pattern(template, start, matcher, {method: handler}, shared))

    def find(self, exchange: Exchange) -> Handler | None:
        """Return the handler of the exchange, which learns its route; None: ask the framework.

        Raises: MethodNotAllowed.
        """
        handlers = self._exact.get(exchange.path)
        if handlers is not None:
            exchange.route = exchange.path
            handler = handlers.get(exchange.method)
            if handler is None:
                raise _not_allowed(exchange, handlers)
            return handler
        for pattern in self._patterns:
            if not exchange.path.startswith(pattern.start):
                continue
            found = pattern.matcher.fullmatch(exchange.path)
            if found is None:
                continue
            exchange.route = pattern.template
            handler_of_one = pattern.handlers.get(exchange.method)
            if handler_of_one is not None:
                return _Bound(handler_of_one, found[1])
            if not pattern.shared:
                raise _not_allowed(exchange, pattern.handlers)
        return None


class _Bound:
    __slots__ = ("_handler", "_parameter")

    def __init__(self, handler: HandlerOfOne, parameter: str) -> None:
        self._handler = handler
        self._parameter = parameter

    def __call__(self, exchange: Exchange) -> Awaitable[None]:
        return self._handler(exchange, self._parameter)


def _not_allowed(exchange: Exchange, handlers: Mapping[str, object]) -> MethodNotAllowed:
    exchange.headers_out.append((b"allow", ", ".join(handlers).encode()))
    return MethodNotAllowed(path=exchange.path, method=exchange.method)
