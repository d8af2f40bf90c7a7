"""The price that was in force when a call began."""

from datetime import UTC, datetime

from meshwright_model_router.domain.pricing import PriceHistory, PricePeriod, Prices

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = datetime(2026, 7, 1, tzinfo=UTC)


def test_each_moment_has_the_price_that_began_last_before_it() -> None:
    history = PriceHistory.ordered([PricePeriod(SECOND, Prices(2)), PricePeriod(FIRST, Prices(1))])
    assert history.at(datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)) == Prices(0)
    assert history.at(FIRST) == Prices(1)
    assert history.at(datetime(2026, 6, 30, 23, 59, 59, 999_999, tzinfo=UTC)) == Prices(1)
    assert history.at(SECOND) == Prices(2)


def test_of_two_prices_that_begin_together_the_later_one_counts() -> None:
    history = PriceHistory.ordered([PricePeriod(FIRST, Prices(1)), PricePeriod(FIRST, Prices(3))])
    assert [one.prices for one in history.periods] == [Prices(3)]


def test_a_price_without_a_date_was_always_in_force() -> None:
    assert PriceHistory.of(Prices(5)).at(datetime(1999, 1, 1, tzinfo=UTC)) == Prices(5)
    assert PriceHistory.of(Prices(5)).at(FIRST) == Prices(5)
    assert PriceHistory().at(FIRST) == Prices(0)


def test_input_from_the_cache_costs_what_input_does_unless_it_has_a_price() -> None:
    counts = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "cached_tokens": 400_000}
    assert Prices(10).cost_micro_usd(**counts) == 10
    assert Prices(10, cached=5).cost_micro_usd(**counts) == 8
