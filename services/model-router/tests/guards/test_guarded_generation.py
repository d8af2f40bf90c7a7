"""Guards around a generator that tells what it was sent and how it was left."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright_common.context import CallContext, Principal, bind
from meshwright_common.errors import ServiceError
from meshwright_common.ids import new_id
from meshwright_model_router.domain.call import EndAnswer, ModelCall
from meshwright_model_router.domain.conversation import Message, Prompt, Role, ToolCall
from meshwright_model_router.domain.errors import GuardUnavailable
from meshwright_model_router.domain.guards.guard import (
    Action,
    Guard,
    HttpKind,
    PiiKind,
    RegexKind,
    Side,
    WordsKind,
)
from meshwright_model_router.domain.guards.guard_set import (
    NO_GUARDS,
    GuardSet,
    JudgeGuard,
    MatcherGuard,
    ReadyGuard,
)
from meshwright_model_router.domain.guards.guarded_input import GuardedInput
from meshwright_model_router.domain.guards.guarded_output import GuardedOutput
from meshwright_model_router.domain.guards.judging import Verdict
from meshwright_model_router.domain.guards.pii_matcher import PiiMatcher
from meshwright_model_router.domain.guards.regex_matcher import RegexMatcher
from meshwright_model_router.domain.guards.word_matcher import WordMatcher
from meshwright_model_router.domain.output import (
    Finding,
    Finished,
    FinishReason,
    GenerationOutput,
    Piece,
    Restarted,
    Started,
    TokenUsage,
    ToolCallPiece,
)
from meshwright_model_router.domain.usage import Attribution

USAGE = TokenUsage(9, 4)
NASTY = Verdict(Action.BLOCK, "nasty")
CALLER = Principal(new_id(), new_id(), "user", frozenset())


@dataclass
class Model:
    """Yields `outputs`, then the end; notes how it was left."""

    outputs: Sequence[GenerationOutput] = ()
    calls: tuple[ToolCall, ...] = ()
    reason: FinishReason = FinishReason.STOP
    asked: list[ModelCall] = field(default_factory=list)
    told: int = 0
    ended_by_guard: bool = False
    closed: int = 0

    async def generate(self, call: ModelCall) -> AsyncGenerator[GenerationOutput, None]:
        self.asked.append(call)
        try:
            yield Started("m", "d")
            for output in self.outputs:
                self.told += 1
                yield output
            yield Finished(self.reason, USAGE, self.calls)
        except EndAnswer:
            self.ended_by_guard = True
            yield Finished(FinishReason.CONTENT_FILTER, USAGE)
        finally:
            self.closed += 1


@dataclass
class Tables:
    """The same guards for every tenant."""

    guards: GuardSet

    def of(self, tenant_id: str) -> GuardSet:
        return self.guards


@dataclass
class Log:
    """What was told."""

    findings: list[Finding] = field(default_factory=list)

    def told(self, guards: GuardSet, findings: Sequence[Finding]) -> None:
        self.findings.extend(findings)


@dataclass
class Judge:
    """Says what a test wants of texts with a word in them."""

    window_characters: int = 8
    verdict: Verdict = NASTY
    asked: list[str] = field(default_factory=list)
    away: bool = False

    async def judge(self, side: Side, model: str, text: str) -> Verdict:
        self.asked.append(text)
        if self.away:
            raise GuardUnavailable(guard="judge")
        return self.verdict if "nasty" in text else Verdict(None)


def mail(action: Action, *sides: Side, models: tuple[str, ...] = ()) -> ReadyGuard:
    guard = Guard("mail", PiiKind(("email",)), action, frozenset(sides or Side), models=models)
    return MatcherGuard(guard, PiiMatcher(("email",)))


def words(action: Action, *phrases: str) -> ReadyGuard:
    return MatcherGuard(Guard("words", WordsKind(phrases), action), WordMatcher(phrases))


def call(*texts: str, model: str = "") -> ModelCall:
    prompt = Prompt(tuple(Message(Role.USER, (text,)) for text in texts or ("Hello",)))
    return ModelCall(model, prompt, Attribution(new_id()))


async def outputs_of(
    model: Model,
    guards: Sequence[ReadyGuard],
    asked: ModelCall | None = None,
    log: Log | None = None,
) -> list[GenerationOutput]:
    log = log or Log()
    tables = Tables(GuardSet(tuple(guards), "v") if guards else NO_GUARDS)

    def named(name: str) -> str:
        return name or "default-model"

    stack = GuardedInput(GuardedOutput(model, log, named=named), tables, log, named=named)
    got: list[GenerationOutput] = []
    with bind(CallContext(CALLER)):
        async with aclosing(stack.generate(asked or call())) as outputs:
            async for output in outputs:
                got.append(output)  # noqa: PERF401 -- what came before an error counts
    return got


def text_of(outputs: Sequence[GenerationOutput]) -> str:
    return "".join(one.text for one in outputs if isinstance(one, Piece))


def end_of(outputs: Sequence[GenerationOutput]) -> Finished:
    assert isinstance(outputs[-1], Finished)
    assert sum(isinstance(one, Finished) for one in outputs) == 1
    return outputs[-1]


def pieces(*texts: str) -> list[GenerationOutput]:
    return [Piece(text) for text in texts]


@pytest.mark.asyncio
async def test_without_guards_the_generator_itself_answers() -> None:
    model = Model(pieces("a@b.com"))
    log = Log()
    tables = Tables(NO_GUARDS)
    stack = GuardedInput(GuardedOutput(model, log, named=str), tables, log, named=str)
    with bind(CallContext(CALLER)):
        outputs = stack.generate(call())
        assert inspect.isasyncgen(outputs)
        assert outputs.ag_code is Model.generate.__code__
        await outputs.aclose()
    assert text_of(await outputs_of(model, [])) == "a@b.com"


@pytest.mark.asyncio
async def test_output_is_redacted_across_pieces_and_the_rest_goes_on_at_once() -> None:
    model = Model(pieces("Write ", "to a", "@", "b.c", "om", " now. ", "Bye"))
    outputs = await outputs_of(model, [mail(Action.REDACT)])
    assert [one.text for one in outputs if isinstance(one, Piece)] == [
        "Write ",
        "to ",
        "[email] now. ",
        "Bye",
    ]
    end = end_of(outputs)
    assert end.finish_reason is FinishReason.STOP
    assert end.findings == (Finding("mail", "email", "output", "redact", 1),)


@pytest.mark.asyncio
async def test_blocked_output_ends_there_and_the_provider_with_it() -> None:
    model = Model(pieces("Say ", "a@", "b.com", " and more", " and more"))
    log = Log()
    outputs = await outputs_of(model, [mail(Action.BLOCK)], log=log)
    assert text_of(outputs) == "Say "
    end = end_of(outputs)
    assert (end.finish_reason, end.usage) == (FinishReason.CONTENT_FILTER, USAGE)
    assert (model.told, model.ended_by_guard, model.closed) == (4, True, 1)
    assert log.findings == [Finding("mail", "email", "output", "block", 1)]
    # Also what is found only at the end, when nothing can follow.
    outputs = await outputs_of(Model(pieces("Say a@b.com")), [mail(Action.BLOCK)])
    assert (text_of(outputs), end_of(outputs).finish_reason) == ("Say ", end.finish_reason)


@pytest.mark.asyncio
async def test_reports_change_nothing() -> None:
    model = Model(pieces("a@b.", "com x@y.org"))
    outputs = await outputs_of(model, [mail(Action.REPORT)])
    assert text_of(outputs) == "a@b.com x@y.org"
    assert end_of(outputs).findings == (Finding("mail", "email", "output", "report", 2),)


@pytest.mark.asyncio
async def test_reasoning_and_arguments_of_tool_calls_are_read_too() -> None:
    whole = '{"to":"a@b.com"}'
    parts = [ToolCallPiece(0, "id", "send", whole[:8]), ToolCallPiece(0, arguments=whole[8:])]
    model = Model(
        [Piece(reasoning="ask c@d.org "), *(Piece(tool_calls=(part,)) for part in parts)],
        calls=(ToolCall("id", "send", whole),),
        reason=FinishReason.TOOL_CALLS,
    )
    outputs = await outputs_of(model, [mail(Action.REDACT)])
    reasoning = "".join(one.reasoning for one in outputs if isinstance(one, Piece))
    told = [part for one in outputs if isinstance(one, Piece) for part in one.tool_calls]
    assert reasoning == "ask [email] "
    assert (told[0].id, told[0].name) == ("id", "send")
    assert "".join(part.arguments for part in told) == '{"to":"[email]"}'
    end = end_of(outputs)
    assert end.tool_calls == (ToolCall("id", "send", '{"to":"[email]"}'),)
    assert end.findings == (Finding("mail", "email", "output", "redact", 2),)


@pytest.mark.asyncio
async def test_blocked_calls_are_not_asked_for() -> None:
    part = ToolCallPiece(0, "id", "send", '{"to":"a@b.com"}')
    model = Model(
        [Piece(tool_calls=(part,))],
        calls=(ToolCall("id", "send", part.arguments),),
        reason=FinishReason.TOOL_CALLS,
    )
    end = end_of(await outputs_of(model, [mail(Action.BLOCK)]))
    assert (end.finish_reason, end.tool_calls) == (FinishReason.CONTENT_FILTER, ())


@pytest.mark.asyncio
async def test_restart_begins_anew() -> None:
    model = Model([Piece("write a"), Restarted("PROVIDER_TRUNCATED", "n", "e"), Piece("@b.com")])
    outputs = await outputs_of(model, [mail(Action.REDACT)])
    restarted = outputs.index(Restarted("PROVIDER_TRUNCATED", "n", "e"))
    assert text_of(outputs[:restarted]) == "write "
    assert text_of(outputs[restarted:]) == "@b.com"


@pytest.mark.asyncio
async def test_guards_read_what_those_before_them_let_go_on() -> None:
    guards = [mail(Action.REDACT), words(Action.BLOCK, "email")]
    outputs = await outputs_of(Model(pieces("Hi a@b.com there")), guards)
    assert text_of(outputs) == "Hi ["
    turned = await outputs_of(Model(pieces("Hi a@b.com there")), guards[::-1])
    assert text_of(turned) == "Hi [email] there"


@pytest.mark.asyncio
async def test_input_is_redacted_before_the_model_sees_it() -> None:
    model = Model(pieces("ok"))
    asked = call("I am a@b.com", "Hello")
    outputs = await outputs_of(model, [mail(Action.REDACT)], asked)
    sent = model.asked[0].prompt.messages
    assert [one.text for one in sent] == ["I am [email]", "Hello"]
    assert end_of(outputs).findings == (Finding("mail", "email", "input", "redact", 1),)


@pytest.mark.asyncio
async def test_results_and_arguments_of_tools_are_input() -> None:
    messages = (
        Message(Role.SYSTEM, ("s@s.com",)),
        Message(Role.ASSISTANT, (), (ToolCall("1", "look", '{"q":"a@b.com"}'),)),
        Message(Role.TOOL, ("c@d.com",), tool_call_id="1"),
    )
    model = Model(pieces("ok"))
    asked = ModelCall("", Prompt(messages), Attribution(new_id()))
    await outputs_of(model, [mail(Action.REDACT)], asked)
    system, assistant, tool = model.asked[0].prompt.messages
    assert (system.text, tool.text) == ("[email]", "[email]")
    assert assistant.tool_calls[0].arguments_json == '{"q":"[email]"}'


@pytest.mark.asyncio
async def test_blocked_input_reaches_no_model_and_names_the_guard() -> None:
    model, log = Model(pieces("ok")), Log()
    with pytest.raises(ServiceError) as caught:
        await outputs_of(model, [mail(Action.BLOCK)], call("I am a@b.com"), log)
    assert caught.value.reason == "GUARD_BLOCKED"
    assert caught.value.metadata == {"guard": "mail", "category": "email"}
    assert "a@b.com" not in str(caught.value)
    assert model.asked == []
    assert log.findings == [Finding("mail", "email", "input", "block", 1)]


@pytest.mark.asyncio
async def test_sides_and_models_decide_what_is_read() -> None:
    said = pieces("c@d.com")
    cases = [
        (mail(Action.REDACT, Side.INPUT), "", "[email]", "c@d.com"),
        (mail(Action.REDACT, Side.OUTPUT), "", "a@b.com", "[email]"),
        (mail(Action.REDACT, models=("other",)), "", "a@b.com", "c@d.com"),
        (mail(Action.REDACT, models=("default-*",)), "", "[email]", "[email]"),
        (mail(Action.REDACT, models=("gpt-*",)), "gpt-5", "[email]", "[email]"),
    ]
    for guard, name, sent, got in cases:
        model = Model(said)
        outputs = await outputs_of(model, [guard], call("a@b.com", model=name))
        assert (model.asked[0].prompt.messages[0].text, text_of(outputs)) == (sent, got)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("most", "verdict", "passed"),
    [
        (Action.BLOCK, Verdict(Action.BLOCK, "nasty"), "good day"),
        (Action.BLOCK, Verdict(Action.REDACT, "nasty", "nice"), "good daynicebye"),
        (Action.REDACT, Verdict(Action.BLOCK, "nasty"), "good day[nasty]bye"),
        (Action.REPORT, Verdict(Action.BLOCK, "nasty"), "good day, nasty bye"),
    ],
)
async def test_judges_see_windows_and_may_do_no_more_than_the_guard(
    most: Action, verdict: Verdict, passed: str
) -> None:
    judge = Judge(verdict=verdict)
    guard = JudgeGuard(Guard("judge", HttpKind("http://j"), most, frozenset({Side.OUTPUT})), judge)
    for cut in (["good day, nasty bye"], list("good day, nasty bye")):
        judge.asked.clear()
        outputs = await outputs_of(Model(pieces(*cut)), [guard])
        assert text_of(outputs) == passed
        assert judge.asked[:2] == ["good day", ", nasty "]


@pytest.mark.asyncio
async def test_input_is_judged_text_by_text() -> None:
    judge = Judge(verdict=Verdict(Action.REDACT, "nasty", "nice"))
    guard = JudgeGuard(Guard("judge", HttpKind("http://j"), Action.REDACT), judge)
    model = Model(pieces("ok"))
    await outputs_of(model, [guard], call("a long and friendly text", "a nasty one, longer still"))
    assert judge.asked[:2] == ["a long and friendly text", "a nasty one, longer still"]
    assert [one.text for one in model.asked[0].prompt.messages] == [judge.asked[0], "nice"]


@pytest.mark.asyncio
async def test_no_verdict_is_no_answer() -> None:
    judge = Judge(away=True)
    guard = JudgeGuard(Guard("judge", HttpKind("http://j"), Action.BLOCK), judge)
    model = Model(pieces("ok"))
    with pytest.raises(ServiceError) as caught:
        await outputs_of(model, [guard])
    assert caught.value.reason == "GUARD_UNAVAILABLE"
    assert model.asked == []


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(["text", "reasoning"]), st.sampled_from("ab@.c om1-")),
        max_size=40,
    ),
    st.sampled_from([Action.REDACT, Action.BLOCK]),
)
def test_answers_do_not_depend_on_how_their_texts_were_cut(
    characters: list[tuple[str, str]], action: Action
) -> None:
    """Each text of an answer by itself: what passes of it is what passes of it as a whole."""
    guards = [
        mail(action),
        MatcherGuard(Guard("r", RegexKind(("o[0-9]m",)), action), RegexMatcher(("o[0-9]m",), 3)),
    ]
    single = [
        Piece(text=char) if channel == "text" else Piece(reasoning=char)
        for channel, char in characters
    ]
    outputs = asyncio.run(outputs_of(Model(single), guards))
    told = {
        "text": text_of(outputs),
        "reasoning": "".join(one.reasoning for one in outputs if isinstance(one, Piece)),
    }
    blocked = end_of(outputs).finish_reason is FinishReason.CONTENT_FILTER
    for channel, got in told.items():
        whole = "".join(char for of, char in characters if of == channel)
        alone = text_of(asyncio.run(outputs_of(Model(pieces(whole)), guards)))
        assert alone.startswith(got) if blocked else got == alone
