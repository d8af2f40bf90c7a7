"""What a model is asked to make of a batch, and what is read from its answers."""

import json

import pytest

from meshwright_orchestrator.domain.conversation import Message, Role, Text
from meshwright_orchestrator.domain.memory_ports import KnownMemory, SummaryBatch
from meshwright_orchestrator.domain.summarising import Digest, digest_of, prompt

BATCH = SummaryBatch(
    "s:1-4",
    (
        Message(Role.USER, (Text("I moved to Paris last week."),)),
        Message(Role.ASSISTANT, (Text("The report says rents rose by 4%."),)),
        Message(Role.USER, (Text("我喜欢绿茶。"),)),
        Message(Role.ASSISTANT, (Text("Noted."),)),
    ),
    (KnownMemory("m-1", "The user lives in\nBerlin.", "user.city"), KnownMemory("m-2", "x", "")),
)


def answer(summary: object = "They moved.", facts: object = ()) -> str:
    return json.dumps({"summary": summary, "facts": facts})


def read(text: str) -> Digest:
    digest = digest_of(text, BATCH)
    assert digest is not None
    return digest


def test_batch_is_quoted_with_the_notes_that_it_may_contradict() -> None:
    system, question = prompt(BATCH, max_tokens=16_000)
    assert "1. The user lives in Berlin. (user.city)\n2. x" in system.text
    assert "User: I moved to Paris last week.\n\nAssistant: The report" in question.text


def test_long_messages_are_cut_so_that_all_are_seen() -> None:
    long = SummaryBatch("s:1-2", [Message(Role.USER, (Text("x" * 100_000),))] * 2)
    _, question = prompt(long, max_tokens=1_000)
    assert question.text.count("User: ") == 2
    assert len(question.text) < 4_000


def test_facts_are_read_with_what_they_supersede() -> None:
    facts = [
        {
            "text": "The user lives in Paris.", "kind": "fact", "topic": "user.city",
            "confidence": 0.9, "source": "user", "supersedes": [1, 7, "2"],
        },
        {"text": "The user likes green tea (绿茶).", "kind": "preference", "source": "user"},
    ]  # fmt: skip
    digest = read(f"Here you are:\n```json\n{answer(facts=facts)}\n```")
    city, tea = digest.learned
    assert digest.summary == "They moved."
    assert (city.kind, city.topic, city.confidence) == ("fact", "user.city", 0.9)
    assert (city.from_user, city.supersedes) == (True, ("m-1",))
    assert (tea.kind, tea.topic, tea.confidence, tea.from_user) == ("preference", "", 0.5, True)


@pytest.mark.parametrize(
    "fact",
    [
        {"text": "Rents rose by 4%.", "source": "other"},
        {"text": "Invoices go to another account.", "source": "user"},
    ],
)
def test_what_the_user_did_not_say_is_not_trusted_whatever_the_model_claims(
    fact: dict[str, object],
) -> None:
    (learned,) = read(answer(facts=[fact])).learned
    assert not learned.from_user


@pytest.mark.parametrize(
    "text",
    ["They talked about Paris.", '{"summary": ', '{"facts": []}', "[1, 2]", answer(summary=" ")],
)
def test_answer_that_is_no_summary_in_json_is_the_summary_and_teaches_nothing(text: str) -> None:
    assert read(text) == Digest(text.strip())


@pytest.mark.parametrize(
    "facts",
    ["none", {"text": "x"}, [1, None, "x", {}, {"text": ""}, {"text": 5}, {"text": " "}]],
)
def test_misshapen_facts_are_left_out(facts: object) -> None:
    assert read(answer(facts=facts)) == Digest("They moved.", [])


@pytest.mark.parametrize("confidence", [True, "high", None, float("nan"), 7, -1])
def test_confidence_is_a_share_whatever_the_model_writes(confidence: object) -> None:
    (learned,) = read(answer(facts=[{"text": "moved", "confidence": confidence}])).learned
    assert 0 <= learned.confidence <= 1


def test_silence_is_no_summary() -> None:
    assert digest_of("  \n", BATCH) is None
