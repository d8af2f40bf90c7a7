"""One generation for all who ask the same at the same time, in one process.

Whoever comes first begins it; whoever comes while it is under way gets its outputs from the first
one on, as they come. It goes on for as long as anybody listens.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import aclosing
from typing import NoReturn, TypeAlias

from meshwright_common.errors import Unavailable
from meshwright_model_router.domain.output import Finished, GenerationOutput

Begin: TypeAlias = Callable[[], AsyncGenerator[GenerationOutput, None]]


class Flight:
    """A generation under way. `is_over`: nothing more comes of it, and nobody may join."""

    def __init__(self, begin: Begin) -> None:
        self.is_over = False
        self._outputs: list[GenerationOutput] = []
        self._listeners = 0
        self._complete = False
        self._news = asyncio.Event()
        # With the context of the first caller: its deadline, its rights, its name on the usage.
        # house: naked-task: awaited by the last listener, or by Flights.close
        self.task = asyncio.create_task(self._run(begin))

    async def follow(self) -> AsyncGenerator[GenerationOutput, None]:
        """Yield all outputs, those that came already first. Raises: what the generation raised."""
        self._listeners += 1
        told = 0
        try:
            while True:
                news = self._news
                while told < len(self._outputs):
                    told += 1
                    yield self._outputs[told - 1]
                if self._complete:
                    return
                if self.is_over:
                    await self._raise_why()
                await news.wait()
        finally:
            self._listeners -= 1
            if not self._listeners and not self._complete and not self.is_over:
                self.is_over = True
                self.task.cancel()
                # The provider's stream is closed before the caller has left.
                await asyncio.wait([self.task])

    async def _run(self, begin: Begin) -> None:
        try:
            async with aclosing(begin()) as outputs:
                async for output in outputs:
                    self._outputs.append(output)
                    self._complete |= isinstance(output, Finished)
                    self._wake()
        finally:
            self.is_over = True
            self._wake()

    async def _raise_why(self) -> NoReturn:
        """Raise what ended the generation before its end."""
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()
        raise Unavailable("The service is about to stop.")

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Flights:
    """The generations under way that others may join, by what they answer."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}

    @property
    def count(self) -> int:
        """Generations under way, answers being stored included."""
        return len(self._flights)

    def join(self, key: Hashable, begin: Begin) -> tuple[Flight, bool]:
        """Return the generation for `key`, begun now when there is none; and whether it was."""
        flight = self._flights.get(key)
        if flight is not None and not flight.is_over:
            return flight, False
        flight = self._flights[key] = Flight(begin)
        flight.task.add_done_callback(lambda _: self._forget(key, flight))
        return flight, True

    async def close(self) -> None:
        """End what is under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, key: Hashable, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
