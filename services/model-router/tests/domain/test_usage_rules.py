"""What is recorded: believing a provider, prices, tokens, finish reasons."""

import pytest

from meshwright_common.errors import ServiceError
from meshwright_model_router.domain.conversation import (
    Image,
    Message,
    Role,
    ToolCall,
    ToolDefinition,
)
from meshwright_model_router.domain.output import (
    FinishReason,
    Piece,
    ReportedUsage,
    TokenUsage,
    ToolCallPiece,
)
from meshwright_model_router.domain.pricing import Prices
from meshwright_model_router.domain.tally import MAX_ANSWER_CHARACTERS, Tally
from meshwright_model_router.domain.tokens import count_prompt, count_text
from meshwright_model_router.domain.usage import is_told, priced, settle


def settled(reported: ReportedUsage | None, prompt: int = 7, completion: int = 9) -> TokenUsage:
    return settle(reported, estimate_prompt=lambda: prompt, estimate_completion=lambda: completion)


def test_believable_usage_is_recorded_as_it_is() -> None:
    assert settled(ReportedUsage(100, 50, 40, 30)) == TokenUsage(100, 50, 40, 30)


def test_missing_usage_is_counted_by_us() -> None:
    assert settled(None) == TokenUsage(7, 9, estimated=True)


@pytest.mark.parametrize("completion", [-5, 10**15, 0])
def test_lies_are_replaced_by_our_count(completion: int) -> None:
    """F-57: usage negative, absurd, or zero although there is text."""
    assert settled(ReportedUsage(100, completion, 40, 3)) == TokenUsage(
        100, 9, cached_tokens=40, estimated=True
    )


def test_zero_is_believed_where_there_is_nothing() -> None:
    assert settled(ReportedUsage(100, 0), completion=0) == TokenUsage(100, 0)


def test_parts_are_never_larger_than_their_whole() -> None:
    assert settled(ReportedUsage(100, 50, 400, -3)) == TokenUsage(100, 50, 100, 0)


def test_estimates_are_made_only_when_needed() -> None:
    def refuse() -> int:
        raise AssertionError("not needed")

    settle(ReportedUsage(1, 1), estimate_prompt=refuse, estimate_completion=refuse)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (TokenUsage(1_000_000, 0), 2_500_000),
        (TokenUsage(0, 1_000_000), 10_000_000),
        (TokenUsage(1_000_000, 0, cached_tokens=1_000_000), 1_250_000),
        (TokenUsage(1000, 500, cached_tokens=400), 1_500 + 500 + 5_000),
        (TokenUsage(1, 0), 3),  # 2.5 rounds half up
        (TokenUsage(), 0),
    ],
)
def test_cost_is_exact_in_integers(usage: TokenUsage, cost: int) -> None:
    prices = Prices(input=2_500_000, output=10_000_000, cached=1_250_000)
    assert priced(usage, prices).cost_micro_usd == cost


def test_cached_input_without_a_price_costs_what_input_costs() -> None:
    usage = TokenUsage(100, 0, cached_tokens=100)
    assert priced(usage, Prices(input=1_000_000)).cost_micro_usd == 100


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("你好", 2),
        ("你好 hello", 4),
        ("é", 1),
        ("🙂", 1),
    ],
)
def test_tokens_of_a_text(text: str, tokens: int) -> None:
    assert count_text(text) == tokens


def test_prompt_counts_everything_that_is_sent() -> None:
    plain = count_prompt([Message(Role.USER, ("hello",))])
    with_image = count_prompt([Message(Role.USER, ("hello", Image(url="https://x/y.png")))])
    with_tool = count_prompt([Message(Role.USER, ("hello",))], [ToolDefinition("search")])
    with_call = count_prompt(
        [Message(Role.USER, ("hello",)), Message(Role.ASSISTANT, (), (ToolCall("1", "f", "{}"),))]
    )
    assert plain < min(with_image, with_tool, with_call)


def test_tally_puts_calls_together() -> None:
    tally = Tally()
    tally.add(Piece("some text", "some thought"))
    tally.add(Piece(tool_calls=(ToolCallPiece(0, "a", "f"), ToolCallPiece(1, "b", "g", "{}"))))
    tally.add(Piece(tool_calls=(ToolCallPiece(0, arguments='{"x"'),)))
    tally.add(Piece(tool_calls=(ToolCallPiece(0, arguments=":1}"),)))
    assert tally.tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}"))
    assert tally.tokens() > count_text("some text")


def test_answer_without_end_is_cut_off() -> None:
    tally = Tally()
    piece = Piece("x" * (MAX_ANSWER_CHARACTERS // 4))
    for _ in range(4):
        tally.add(piece)
    with pytest.raises(ServiceError) as raised:
        tally.add(Piece("x"))
    assert raised.value.reason == "PROVIDER_PROTOCOL"


@pytest.mark.parametrize(
    ("calls", "reported", "expected"),
    [
        (True, FinishReason.STOP, FinishReason.TOOL_CALLS),
        (True, FinishReason.LENGTH, FinishReason.LENGTH),
        (False, FinishReason.TOOL_CALLS, FinishReason.STOP),
        (False, FinishReason.STOP, FinishReason.STOP),
    ],
)
def test_finish_reason_fits_what_was_produced(
    calls: bool, reported: FinishReason, expected: FinishReason
) -> None:
    tally = Tally()
    if calls:
        tally.add(Piece(tool_calls=(ToolCallPiece(0, "a", "f"),)))
    assert tally.finish_reason(reported) is expected


def test_output_beyond_what_the_provider_was_asked_for_is_not_believed() -> None:
    """F-57: a count that cannot be, for the provider was given a bound."""
    usage = settle(
        ReportedUsage(100, 5000),
        estimate_prompt=lambda: 90,
        estimate_completion=lambda: 30,
        completion_bound=64,
    )
    assert usage == TokenUsage(100, 64, estimated=True)


def test_a_prompt_many_times_larger_than_what_was_sent_is_not_believed() -> None:
    assert settled(ReportedUsage(5_000_000, 9), prompt=50) == TokenUsage(50, 9, estimated=True)
    assert settled(ReportedUsage(5_000_000, 9), prompt=900_000).prompt_tokens == 5_000_000


@pytest.mark.parametrize(
    ("told", "own", "believed"), [(20, 55, True), (1, 55, False), (0, 0, False)]
)
def test_what_is_told_with_a_piece_is_believed_beside_our_count(
    told: int, own: int, believed: bool
) -> None:
    assert believed is is_told(ReportedUsage(5, told), own)
