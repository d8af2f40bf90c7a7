"""Golden journals: what an engine of any released version did, this one does again.

A journal is a JSON file in `journals/`: `engine_version`, `agent` (a built-in one), `definition`
(fields of AgentSpec that differ from that one; may be left out), `question`, `limits`, `steps` as
they are stored (kind, outcome), and `commands`, one more than steps, as `told` names them.
`python -m services.orchestrator.tests.domain.test_journals FILE` writes the commands of a file
that has none yet; a file that has them is never written again.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshwright_orchestrator.adapters import step_rows
from meshwright_orchestrator.agents.catalogue import BUILTIN
from meshwright_orchestrator.domain.decider import (
    KNOWN_VERSIONS,
    NO_TOOL,
    CallModel,
    CallTools,
    Decision,
    Fail,
    Finish,
    Recall,
    Say,
)
from meshwright_orchestrator.domain.deciding import begin
from meshwright_orchestrator.domain.journal import Step
from meshwright_orchestrator.domain.models import Limits
from meshwright_orchestrator.domain.runner import replayed
from meshwright_orchestrator.domain.waiting import Ask, Delegate, Sleep
from services.orchestrator.tests.domain.driving import spec

JOURNALS = sorted((Path(__file__).parent / "journals").glob("*.json"))


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_recorded_journal_gives_the_same_commands(path: Path) -> None:
    """R-06: a journal of any released version decides as it did, or carries another version."""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert recorded["engine_version"] in KNOWN_VERSIONS
    assert [told(decision) for decision in decisions(recorded)] == recorded["commands"]


def decisions(recorded: Any) -> Iterator[Decision]:
    """Yield the decisions that a recorded journal leads to, the first one before its first step."""
    asked = spec(recorded["question"], recorded["agent"])
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in recorded.get("definition", {}).items()
    }
    agent = replace(BUILTIN.find(asked.agent), **fields)
    decision = begin(agent, asked, Limits(**recorded["limits"]))
    yield decision
    for number, entry in enumerate(recorded["steps"], start=1):
        outcome = step_rows.outcome_from(entry["kind"], entry["outcome"])
        decision = replayed(decision, (Step(number, 1, outcome),))
        yield decision


def told(decision: Decision) -> dict[str, object]:  # noqa: C901, PLR0911 - one case a command
    """Return a command as recorded journals name it."""
    match decision.command:
        case Recall(query, top_k, memories):
            asked = {"recall": query, "top_k": top_k}
            return {**asked, "memories": memories} if memories else asked
        case CallModel(messages, tool_use, hidden, silent, agents):
            shown = [f"{message.role.value}: {message.text}" for message in messages]
            call: dict[str, object] = {"model": shown, "tools": tool_use.value}
            if hidden or silent:
                call["told"] = "as reasoning" if hidden else "to nobody"
            if agents:
                call["agents"] = list(agents)
            if decision.command.output_schema is not None:
                call["output_schema"] = decision.command.output_schema
            return call
        case CallTools(calls):
            made: dict[str, object] = {
                "tools": [f"{plan.call.name} {plan.call.arguments_json}" for plan in calls]
            }
            refused = [plan.call.name for plan in calls if plan.reason == NO_TOOL]
            return {**made, "refused": refused} if refused else made
        case Ask(questions):
            return {"ask": [question.text for question in questions]}
        case Delegate(children):
            handed = [f"{child.agent}: {child.messages[-1].text}" for child in children]
            return {"delegate": handed}
        case Sleep(seconds):
            return {"sleep": seconds}
        case Say(text):
            return {"say": text}
        case Finish(result):
            cited = [citation.chunk_id for citation in result.citations]
            return {"finish": result.answer, "citations": cited}
        case Fail(failure):
            return {"fail": failure.reason}


if __name__ == "__main__":
    file = Path(sys.argv[1])
    journal = json.loads(file.read_text(encoding="utf-8"))
    if "commands" in journal:
        sys.exit("its commands are recorded already")
    journal["commands"] = [told(decision) for decision in decisions(journal)]
    file.write_text(json.dumps(journal, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
