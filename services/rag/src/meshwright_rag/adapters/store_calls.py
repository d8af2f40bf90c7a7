"""Calls to the store of an index: a time limit, a breaker, and errors in the service's words."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from meshwright_common.clock import SystemClock
from meshwright_common.errors import Unavailable
from meshwright_common.resilience.breaker import Breaker, BreakerPolicy
from meshwright_rag.domain.errors import IndexRefused, IndexUnavailable

POLICY: Final = BreakerPolicy(open_seconds=2, longest_open_seconds=10)
"""A store that is away costs searches no time, and is asked again within 10 s of its return."""


class StoreCalls:
    """The calls of one process to one store.

    `index` names it in errors. `is_refusal` tells errors of `errors`, the driver's, by which the
    store answered and did not want the request, from those that say that it cannot serve now.
    """

    def __init__(
        self,
        index: str,
        *,
        errors: tuple[type[Exception], ...],
        is_refusal: Callable[[Exception], bool],
    ) -> None:
        self._index = index
        self._errors = errors
        self._is_refusal = is_refusal
        self._breaker = Breaker(f"the {index} index", SystemClock(), POLICY)

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Limit the block's time and translate its errors.

        Raises: IndexUnavailable; IndexRefused.
        """
        try:
            self._breaker.check()
        except Unavailable as error:
            raise IndexUnavailable(index=self._index, cause=error.message) from error
        settled = False
        try:
            async with asyncio.timeout(seconds):
                yield
            settled = True
            self._breaker.record_success()
        except TimeoutError as error:
            settled = True
            self._breaker.record_failure()
            raise IndexUnavailable(
                index=self._index, cause=f"no answer within {seconds} s"
            ) from error
        except self._errors as error:
            settled = True
            if self._is_refusal(error):
                self._breaker.record_success()
                raise IndexRefused(index=self._index, cause=_first_line(error)) from error
            self._breaker.record_failure()
            raise IndexUnavailable(index=self._index, cause=_first_line(error)) from error
        finally:
            if not settled:
                self._breaker.forget()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
