"""How good the answers are: recall@5 and nDCG@5 on a labelled set, both languages (R5).

A passage is right when it is of the question's document and holds the words of the answer. The
floors are a little below what was measured when they were set; a change that loses quality fails.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from services.rag.tests.world import World, tenant

HERE: Final = Path(__file__).parent
TOP_K: Final = 5


@dataclass(frozen=True)
class Question:
    """A question, and where its answer stands."""

    question: str
    document: str
    answer: str


@dataclass(frozen=True)
class Score:
    """`recall`: share of questions with a right passage among the first five. `ndcg`: the same,
    counting how far up it stands."""

    recall: float
    ndcg: float


def questions() -> list[Question]:
    with (HERE / "questions.csv").open(encoding="utf-8", newline="") as file:
        return [Question(**row) for row in csv.DictReader(file)]


async def score(world: World, **fields: object) -> Score:
    """Ask every question; one passage is right, so the ideal gain is 1."""
    gains = []
    for one in questions():
        found = await world.search(one.question, topK=TOP_K, **fields)
        ranks = [
            rank
            for rank, passage in enumerate(found.passages, start=1)
            if passage.document_name == one.document
            and one.answer in " ".join(passage.text.split())
        ]
        gains.append(1 / math.log2(ranks[0] + 1) if ranks else 0.0)
    return Score(sum(gain > 0 for gain in gains) / len(gains), sum(gains) / len(gains))


@pytest.mark.timeout(170)
@pytest.mark.asyncio
async def test_answers_are_found_near_the_top_in_both_languages(quality_world: World) -> None:
    world = quality_world
    with world.caller(tenant()):
        for path in sorted((HERE / "corpus").iterdir()):
            await world.add(path.name, path.read_bytes())
        hybrid = await score(world)
        words = await score(world, vectorWeight=0.0)
        vectors = await score(world, vectorWeight=1.0)
    assert hybrid.recall >= 0.97
    assert hybrid.ndcg >= 0.93
    assert words.recall >= 0.97
    assert vectors.recall >= 0.9
