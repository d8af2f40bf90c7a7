"""Expressions in CEL, by Google's own implementation, bounded in size, time and memory.

The library bounds an evaluation to 10 000 iterations and the nesting of an expression to 32. What
iterates may still copy a large text each time, so expressions with a macro (map, filter, all,
exists) are evaluated in a process of their own, whose address space is bounded and which is ended
when it does not answer in time. The others take time linear in what they read, and are evaluated
here.
"""

import asyncio
import contextlib
import os
import struct
import sys
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import orjson
from cel_expr_python import cel

from meshwright_common.errors import Unavailable
from meshwright_orchestrator.domain.workflows.expressions import (
    VARIABLES,
    ExpressionWrong,
    Variables,
)

MAX_VALUE_BYTES: Final = 1024 * 1024
"""Of a value, as JSON: a list of many outputs may be longer than one output."""
MEMORY_BYTES: Final = 1024 * 1024 * 1024
"""Address space of the process that iterates."""
SECONDS: Final = 1.0
"""How long one evaluation may take there, after the process began."""
START_SECONDS: Final = 10.0
LENGTH: Final = struct.Struct(">I")
_MODULE: Final = "meshwright_orchestrator.adapters.cel_process"
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TZ")
_ACCUMULATOR: Final = b"@result"
"""Stands in what is compiled from every macro, and cannot be written as a name."""
_ENVIRONMENT: Final = cel.NewEnv(variables=dict.fromkeys(VARIABLES, cel.Type.DYN))


@lru_cache(maxsize=1024)
def compiled(expression: str) -> cel.Expression:
    """Return an expression, ready to be evaluated. Raises: ExpressionWrong."""
    if not expression.strip():
        raise ExpressionWrong("an expression must not be empty")
    try:
        return _ENVIRONMENT.compile(expression)
    except (RuntimeError, ValueError) as error:
        text = str(error).split("\n")[0].removeprefix("INVALID_ARGUMENT: ")
        raise ExpressionWrong(f"{expression[:200]}: {text[:500]}") from None


def evaluated(expression: str, variables: Variables) -> object:
    """Return the value of an expression, of plain JSON types. Raises: ExpressionWrong."""
    try:
        value = compiled(expression).eval(data=dict(variables))
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise ExpressionWrong(f"{expression[:200]}: {str(error)[:500]}") from None
    if value.type() == cel.Type.ERROR:
        raise ExpressionWrong(f"{expression[:200]}: {str(value.value())[:500]}")
    return _plain(value.plain_value(), expression)


def _plain(value: object, expression: str) -> object:
    try:
        written = orjson.dumps(value, default=_special, option=orjson.OPT_NON_STR_KEYS)
    except (orjson.JSONEncodeError, RecursionError):
        raise ExpressionWrong(f"{expression[:200]}: its value is no JSON") from None
    if len(written) > MAX_VALUE_BYTES:
        raise ExpressionWrong(
            f"{expression[:200]}: its value is larger than {MAX_VALUE_BYTES} bytes as JSON"
        )
    return orjson.loads(written)


def _special(value: object) -> object:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


class Cel:
    """Expressions: see the port. Close it with `aclose`."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    def check(self, expression: str) -> None:
        compiled(expression)

    async def evaluate(self, expression: str, variables: Variables) -> object:
        if _ACCUMULATOR not in compiled(expression).serialize():
            return evaluated(expression, variables)
        async with self._lock:
            answer = await self._asked(expression, variables)
        if "error" in answer:
            raise ExpressionWrong(str(answer["error"]))
        return answer["value"]

    async def _asked(self, expression: str, variables: Variables) -> dict[str, object]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._started()
        at_rest = False
        try:
            async with asyncio.timeout(SECONDS):
                answer = await _exchanged(process, [expression, dict(variables)])
            at_rest = True
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            # It iterates over too much, and its memory or time is over.
            text = f"{expression[:200]}: takes more time or memory than an expression may"
            raise ExpressionWrong(text) from None
        finally:
            if not at_rest:
                # Part of an answer may still be on its way, of no use to anybody else.
                await asyncio.shield(self._end())
        return answer

    async def _started(self) -> asyncio.subprocess.Process:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", _MODULE, str(MEMORY_BYTES),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd="/",
            env=environment,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                await _exchanged(process, ["true", {}])
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise Unavailable("the process that evaluates expressions did not start") from error
        return process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def aclose(self) -> None:
        """End the process, if there is one."""
        await self._end()


async def _exchanged(process: asyncio.subprocess.Process, asked: object) -> dict[str, object]:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
    body = orjson.dumps(asked)
    process.stdin.write(LENGTH.pack(len(body)) + body)
    await process.stdin.drain()
    header = await process.stdout.readexactly(LENGTH.size)
    answer: dict[str, object] = orjson.loads(
        await process.stdout.readexactly(*LENGTH.unpack(header))
    )
    return answer
