"""Guards that a call names, beside those in force."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.ids import new_id
from meshwright_model_router.domain.call import ModelCall
from meshwright_model_router.domain.conversation import Message, Prompt, Role
from meshwright_model_router.domain.errors import GuardUnavailable
from meshwright_model_router.domain.guards.guard import Action, Guard, PiiKind, Side
from meshwright_model_router.domain.guards.guard_set import (
    NO_GUARDS,
    GuardSet,
    MatcherGuard,
    NamedGuards,
)
from meshwright_model_router.domain.guards.guarded_input import GuardedInput
from meshwright_model_router.domain.guards.guarded_output import GuardedOutput
from meshwright_model_router.domain.guards.pii_matcher import PiiMatcher
from meshwright_model_router.domain.output import (
    Finding,
    Finished,
    FinishReason,
    GenerationOutput,
    Piece,
    TokenUsage,
)
from meshwright_model_router.domain.usage import Attribution

KIND = PiiKind(("email",))
OFF = MatcherGuard(
    Guard("mail", KIND, Action.REDACT, frozenset({Side.INPUT}), models=("other",), disabled=True),
    PiiMatcher(KIND.kinds),
)


class Echo:
    """Says what it is asked."""

    async def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        (said,) = call.prompt.messages[-1].parts
        assert isinstance(said, str)
        yield Piece(said)
        yield Finished(FinishReason.STOP, TokenUsage())


class Nobody:
    """Is told nothing that anybody reads."""

    def told(self, guards: GuardSet, findings: Sequence[Finding]) -> None:
        pass


class Tables:
    """One set for all tenants."""

    def __init__(self, guards: GuardSet) -> None:
        self._guards = guards

    def of(self, tenant_id: str) -> GuardSet:
        return self._guards


async def said(guards: GuardSet, named: NamedGuards) -> tuple[str, list[str]]:
    """Return what a model says that repeats an address, and the sides where it was found."""
    prompt = Prompt((Message(Role.USER, ("a@b.com",)),))
    call = ModelCall("m", prompt, Attribution(new_id()), named_guards=named)
    stack = GuardedInput(
        GuardedOutput(Echo(), Nobody(), named=str), Tables(guards), Nobody(), named=str
    )
    text, sides = "", list[str]()
    with bind(CallContext(Principal(new_id(), new_id(), "user", frozenset()))):
        async with aclosing(stack.generate(call)) as outputs:
            async for output in outputs:
                text += output.text if isinstance(output, Piece) else ""
                if isinstance(output, Finished):
                    sides += [finding.side for finding in output.findings]
    return text, sides


@pytest.mark.asyncio
async def test_guard_that_is_off_reads_the_sides_that_a_call_names_it_for() -> None:
    guards = GuardSet((OFF,), "v")
    assert await said(guards, frozenset()) == ("a@b.com", [])
    assert await said(guards, frozenset({(Side.INPUT, "mail")})) == ("[email]", ["input"])
    assert await said(guards, frozenset({(Side.OUTPUT, "mail")})) == ("[email]", ["output"])


@pytest.mark.asyncio
async def test_guard_that_a_call_names_and_nobody_made_fails_the_call() -> None:
    for guards in (NO_GUARDS, GuardSet((OFF,), "v")):
        with pytest.raises(GuardUnavailable, match="gone"):
            await said(guards, frozenset({(Side.INPUT, "gone")}))


def test_answers_under_named_guards_are_other_answers() -> None:
    guards = GuardSet((OFF,), "v")
    versions = {guards.naming(frozenset({(side, "mail")})).version for side in Side}
    assert len({guards.version, *versions}) == 3
    assert guards.naming(frozenset()) is guards
