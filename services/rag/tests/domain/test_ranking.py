"""Reciprocal rank fusion."""

import pytest

from meshwright_rag.domain.ranking import K, fuse


def test_first_in_every_list_scores_one() -> None:
    (first, *_) = fuse({"vector": (0.7, ["a", "b"]), "text": (0.3, ["a", "c"])})
    assert first.item == "a"
    assert first.score == pytest.approx(1.0)
    assert first.ranks == {"vector": 1, "text": 1}


def test_scores_follow_the_weights_and_ranks() -> None:
    found = {one.item: one.score for one in fuse({"v": (0.7, ["a", "b"]), "t": (0.3, ["b"])})}
    best = 1 / (K + 1)
    assert found["a"] == pytest.approx(0.7 / (K + 1) / best)
    assert found["b"] == pytest.approx((0.7 / (K + 2) + 0.3 / (K + 1)) / best)


def test_equal_scores_keep_one_order_whatever_the_input_order() -> None:
    one = fuse({"v": (0.5, ["a"]), "t": (0.5, ["b"])})
    other = fuse({"t": (0.5, ["b"]), "v": (0.5, ["a"])})
    assert [item.item for item in one] == [item.item for item in other] == ["a", "b"]


def test_a_list_without_weight_counts_for_nothing() -> None:
    assert [one.item for one in fuse({"v": (0.0, ["a"]), "t": (1.0, ["b"])})] == ["b"]


def test_a_repeated_item_keeps_its_best_rank() -> None:
    (only,) = fuse({"t": (1.0, ["a", "a"])})
    assert only.ranks == {"t": 1}
