"""Turns that wait to be summarised: asked for once a batch, by whoever may remember."""

from dataclasses import replace

import pytest
import pytest_asyncio

from meshwright.chat.v1 import chat_service_pb2
from meshwright.orchestrator.v1 import task_pb2
from meshwright_common.context import CallContext, bind
from meshwright_common.errors import Unavailable
from meshwright_common.settings import RedisSettings
from meshwright_common.testing.engines import DatabaseSettingsFor
from meshwright_common.testing.waiting import eventually
from services.chat.tests.test_turns import Mesh, collect

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def mesh(database_settings: DatabaseSettingsFor, redis_settings: RedisSettings) -> Mesh:
    return Mesh(await database_settings("meshwright_chat"), redis_settings)


def remembering(mesh: Mesh) -> CallContext:
    """Return the context of a caller who may remember."""
    permissions = mesh.caller.permissions | {"memory:read", "memory:write"}
    return CallContext(principal=replace(mesh.caller, permissions=permissions))


async def ask(chat: object, session_id: str = "") -> str:
    """Ask a question; return the session of its turn."""
    request = chat_service_pb2.StreamChatRequest(
        message="why?", session_id=session_id, model="sim-x"
    )
    events = await collect(chat, request)
    assert events[-1].WhichOneof("event") == "completed"
    return str(events[0].started.session_id)


async def test_turns_that_are_due_are_summarised_by_a_task_of_their_batch(mesh: Mesh) -> None:
    """S4: the same task until the batch is summarised, by the model that the user asked."""
    mesh.sessions.summary_due = True
    async with mesh.process() as chat:
        with bind(remembering(mesh)):
            session_id = await ask(chat)
            await eventually(lambda: len(mesh.agents.submitted) == 1)
            await ask(chat, session_id)
            await eventually(lambda: len(mesh.agents.submitted) == 2)
            mesh.sessions.summarised_sequence = 20
            await ask(chat, session_id)
            await eventually(lambda: len(mesh.agents.submitted) == 3)
    first, again, later = mesh.agents.submitted
    assert first == again
    assert first.request_id == f"summary-{session_id}-0"
    assert later.request_id == f"summary-{session_id}-20"
    assert (first.spec.agent, first.spec.session_id) == ("summary", session_id)
    assert (first.spec.model, first.spec.priority) == ("sim-x", task_pb2.TASK_PRIORITY_LOW)


async def test_task_that_ended_without_a_summary_is_followed_by_another(mesh: Mesh) -> None:
    mesh.sessions.summary_due = True
    mesh.agents.submitted_state = task_pb2.TASK_STATE_FAILED
    async with mesh.process() as chat:
        with bind(remembering(mesh)):
            await ask(chat)
            await eventually(lambda: len(mesh.agents.submitted) == 2)
    first, second = mesh.agents.submitted
    assert second.request_id.startswith(f"{first.request_id}-")
    assert second.spec == first.spec


async def test_refused_task_costs_no_turn_its_answer(mesh: Mesh) -> None:
    mesh.sessions.summary_due = True
    mesh.agents.refusal = Unavailable("no room")
    async with mesh.process() as chat:
        with bind(remembering(mesh)):
            await ask(chat)
            await eventually(lambda: bool(mesh.agents.submitted))


async def test_nothing_is_asked_for_before_it_is_due_or_without_the_right(mesh: Mesh) -> None:
    async with mesh.process() as chat:
        with bind(remembering(mesh)):
            await ask(chat)
        mesh.sessions.summary_due = True
        with bind(CallContext(principal=mesh.caller)):
            await ask(chat)
    assert not mesh.agents.submitted
