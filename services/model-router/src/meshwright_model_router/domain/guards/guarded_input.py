"""Guards on what is sent to a model: before anything else is done with it."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from meshwright_common.context import principal
from meshwright_model_router.domain.call import Generator, ModelCall
from meshwright_model_router.domain.conversation import Message, Prompt
from meshwright_model_router.domain.errors import GuardBlocked
from meshwright_model_router.domain.guards.findings import GuardLog, merged
from meshwright_model_router.domain.guards.guard import Action, Side
from meshwright_model_router.domain.guards.guard_set import (
    GuardSet,
    GuardTables,
    JudgeGuard,
    ModelNamed,
    ReadyGuard,
)
from meshwright_model_router.domain.guards.screen import Screen
from meshwright_model_router.domain.output import Finding, Finished, GenerationOutput

AT_ONCE: Final = 8
"""Texts of a call that judges are asked about at the same time."""


class GuardedInput:
    """Checks and redacts prompts, then asks `inner`, which knows the guards from the call.

    The outermost layer: what a guard refuses is neither sent, nor embedded, nor answered from a
    cache, and what it redacts is not seen by any of these. Without guards it costs one look-up.
    """

    def __init__(
        self, inner: Generator, tables: GuardTables, log: GuardLog, *, named: ModelNamed
    ) -> None:
        self._inner = inner
        self._tables = tables
        self._log = log
        self._named = named

    def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        """Generate as `inner` does. Raises besides: GuardBlocked, GuardUnavailable."""
        guards = self._tables.of(principal().tenant_id).naming(call.named_guards)
        if not guards.guards:
            return self._inner.generate(call)
        call = replace(call, guards=guards)
        model = self._named(call.model)
        readers = guards.of(Side.INPUT, model)
        if not readers:
            return self._inner.generate(call)
        return self._guarded(call, guards, readers, model)

    async def _guarded(
        self, call: ModelCall, guards: GuardSet, readers: Sequence[ReadyGuard], model: str
    ) -> AsyncGenerator[GenerationOutput, None]:
        prompt, findings = await screen_prompt(call.prompt, readers, model)
        blocked = next((one for one in findings if one.action == Action.BLOCK), None)
        self._log.told(guards, findings)
        if blocked is not None:
            raise GuardBlocked(guard=blocked.guard, category=blocked.category)
        async with aclosing(self._inner.generate(replace(call, prompt=prompt))) as outputs:
            async for output in outputs:
                if isinstance(output, Finished) and findings:
                    yield replace(output, findings=(*findings, *output.findings))
                else:
                    yield output


async def screen_prompt(
    prompt: Prompt, guards: Sequence[ReadyGuard], model: str
) -> tuple[Prompt, tuple[Finding, ...]]:
    """Return the prompt as it may be sent, and what was found in it.

    Read are the texts of all messages and the arguments of tool calls; not tools and images.
    A finding of action "block" means that it may not be sent. Raises: GuardUnavailable.
    """
    turns = asyncio.Semaphore(AT_ONCE)
    found: list[Finding] = []

    async def read(text: str) -> str:
        async with turns:
            passed, _, findings = await screen_text(text, guards, Side.INPUT, model)
        found.extend(findings)
        return passed

    async def read_message(message: Message) -> Message:
        parts = [await read(one) if isinstance(one, str) else one for one in message.parts]
        calls = [
            replace(one, arguments_json=await read(one.arguments_json))
            for one in message.tool_calls
        ]
        return replace(message, parts=tuple(parts), tool_calls=tuple(calls))

    if any(isinstance(one, JudgeGuard) for one in guards):
        messages = await _at_once([read_message(one) for one in prompt.messages])
    else:
        messages = [await read_message(one) for one in prompt.messages]
    return replace(prompt, messages=tuple(messages)), merged(found)


async def _at_once(reading: Sequence[Coroutine[None, None, Message]]) -> list[Message]:
    """Return the messages. Raises: what the first of them raised that failed."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in reading]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def screen_text(
    text: str, guards: Sequence[ReadyGuard], side: Side, model: str
) -> tuple[str, bool, tuple[Finding, ...]]:
    """Return a whole text as it may go on, whether it is blocked, and what was found.

    Raises: GuardUnavailable.
    """
    screen = Screen(guards, side, model)
    passed = await screen.feed(text)
    if not screen.blocked:
        passed += await screen.finish()
    return passed, screen.blocked, screen.findings()
