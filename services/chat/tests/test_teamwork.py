"""Plans and the work of other agents in turns: mapped, journaled, and no interruption."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from meshwright.orchestrator.v1 import agent_service_pb2, task_pb2
from meshwright.types.v1 import plan_pb2
from meshwright_chat.adapters.orchestrator_client import agent_events
from meshwright_chat.domain.models import Entry, Restarted, TaskAccepted
from meshwright_chat.domain.teamwork import Handed, Planned, PlanStep
from meshwright_chat.wire import events
from meshwright_common.ids import new_id

TASK = new_id()


def told(attempt: int, **event: Any) -> agent_service_pb2.ExecuteTaskResponse:
    return agent_service_pb2.ExecuteTaskResponse(
        event=task_pb2.TaskEvent(task_id=TASK, attempt=attempt, **event)
    )


async def heard(*responses: agent_service_pb2.ExecuteTaskResponse) -> list[object]:
    async def stream() -> AsyncIterator[agent_service_pb2.ExecuteTaskResponse]:
        for response in responses:
            yield response

    return [event async for event in agent_events(stream(), 1)]


def child(state: str) -> task_pb2.TaskChild:
    number = task_pb2.TaskState.Value(f"TASK_STATE_{state}")
    return task_pb2.TaskChild(task_id="t-2", agent="rag", state=number)


@pytest.mark.asyncio
async def test_an_attempt_that_goes_on_after_other_agents_takes_nothing_back() -> None:
    started = task_pb2.TaskStarted(agent="supervisor")
    checkpoint = task_pb2.TaskCheckpoint(step=1, answer_characters=6)
    assert await heard(
        told(1, started=started),
        told(1, checkpoint=checkpoint),
        told(1, child=child("QUEUED")),
        told(2, started=started),
        told(2, child=child("COMPLETED")),
    ) == [TaskAccepted(TASK), Handed("t-2", "rag", "queued"), Handed("t-2", "rag", "completed")]


@pytest.mark.asyncio
async def test_an_attempt_after_a_crash_amid_a_text_takes_it_back() -> None:
    started = task_pb2.TaskStarted(agent="supervisor")
    found = await heard(
        told(1, started=started),
        told(1, child=child("QUEUED")),
        told(1, chunk=task_pb2.TaskChunk(text="Half")),
        told(2, started=started),
    )
    assert isinstance(found[-1], Restarted)


@pytest.mark.asyncio
async def test_a_plan_is_told_as_it_stands() -> None:
    plan = plan_pb2.Plan(revision=2, note="anew")
    plan.steps.add(text="Look.", state=plan_pb2.PLAN_STEP_STATE_FAILED)
    plan.steps.add(text="Ask.", state=plan_pb2.PLAN_STEP_STATE_RUNNING)
    (_, planned) = await heard(told(1, plan=plan))
    assert planned == Planned((PlanStep("Look.", "failed"), PlanStep("Ask.", "running")), 2, "anew")


@pytest.mark.parametrize(
    "event",
    [
        Planned((PlanStep("Look.", "completed"), PlanStep("Ask.", "pending")), 1),
        Planned((), 1, "no plan"),
        Handed("t-2", "rag", "cancelled"),
    ],
)
def test_what_is_shown_is_journaled_and_read_again(event: Planned | Handed) -> None:
    entry = Entry("turn-1", 3, 1, datetime.now(UTC), event)
    assert events.decode("turn-1", events.encode(entry)) == entry
