"""Agents that join from outside: states, shares of the work, deaths (O8)."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from meshwright.orchestrator.v1 import (
    agent_pb2,
    agent_registry_service_pb2,
    agent_service_pb2,
    task_pb2,
)
from meshwright_common.context import Principal
from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from meshwright_common.ids import new_id
from meshwright_common.testing.waiting import eventually
from services.orchestrator.tests.joining import (
    BUSY,
    IDLE,
    JOINING,
    beat,
    beating,
    instances_of,
    joined,
    register,
    said,
    serving,
)
from services.orchestrator.tests.mesh import Mesh, Stubs, acting, kinds, request, run, text_of

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]

ONLINE = agent_pb2.AGENT_INSTANCE_STATE_ONLINE
DRAINING = agent_pb2.AGENT_INSTANCE_STATE_DRAINING
UNKNOWN = agent_pb2.AGENT_INSTANCE_STATE_UNKNOWN
OFFLINE = agent_pb2.AGENT_INSTANCE_STATE_OFFLINE


@pytest.fixture
def operator(mesh: Mesh) -> Principal:
    """Somebody who lets programs join."""
    return mesh.colleague("agent:join", "agent:write")


async def test_program_joins_answers_and_is_listed(mesh: Mesh, operator: Principal) -> None:
    async with (
        mesh.process(JOINING) as stubs,
        serving(mesh, "one") as (one,),
        joined(stubs, operator, [one]),
    ):
        again = await register(stubs, operator, one.address)
        events = await run(stubs, mesh.caller, request("Rain?", agent="weather"))
        with acting(mesh.caller):
            listed = await stubs.registry.ListAgents(
                agent_registry_service_pb2.ListAgentsRequest(types=[agent_pb2.AGENT_TYPE_REMOTE])
            )
            task = await stubs.agents.GetTask(
                agent_service_pb2.GetTaskRequest(task_id=events[0].task_id)
            )
        found = await instances_of(stubs, operator)
    assert kinds(events) == ["started", "chunk", "checkpoint", "final"]
    assert text_of(events) == "one: Rain?" == events[-1].final.answer
    assert task.task.usage.prompt_tokens == 7
    assert task.task.step_count == 1
    assert [(agent.name, agent.online_instances) for agent in listed.agents] == [("weather", 1)]
    assert list(found) == [one.address]
    assert again.agent_instance_id == found[one.address].agent_instance_id
    assert one.asked == [events[0].task_id]
    # The token proves who calls, and is good for nothing else.
    (caller,) = one.callers
    assert (caller.tenant_id, caller.subject) == (mesh.caller.tenant_id, mesh.caller.subject)
    assert caller.permissions == frozenset()


async def test_names_and_addresses_are_checked(mesh: Mesh, operator: Principal) -> None:
    async with mesh.process(JOINING) as stubs:
        with pytest.raises(AlreadyExists):
            await register(stubs, operator, "127.0.0.1:5", agent="chat")
        for address in ("10.0.0.1:50", "169.254.169.254:80", "[::1]:50"):
            with pytest.raises(PermissionDenied) as refused:
                await register(stubs, operator, address)
            assert refused.value.reason == "EGRESS_REFUSED"
        for address in ("127.0.0.1", "unix:/tmp/x", "dns:///a:5/b:5", "127.0.0.1:0"):
            with pytest.raises(InvalidArgument, match="address"):
                await register(stubs, operator, address)
        await register(stubs, operator, "127.0.0.1:5")
        define = agent_registry_service_pb2.DefineAgentRequest(
            name="weather",
            definition=agent_pb2.AgentDefinition(type=agent_pb2.AGENT_TYPE_CHAT),
        )
        with acting(operator):
            with pytest.raises(AlreadyExists):
                await stubs.registry.DefineAgent(define)
            define.name = "mine"
            await stubs.registry.DefineAgent(define)
        with pytest.raises(AlreadyExists):
            await register(stubs, operator, "127.0.0.1:5", agent="mine")
        stranger = replace(operator, tenant_id=new_id())
        with pytest.raises(NotFound) as unknown:
            await run(stubs, stranger, request(agent="weather"))
    assert unknown.value.reason == "AGENT_NOT_FOUND"


async def test_states_follow_the_heartbeats_whichever_process_looks(
    mesh: Mesh, operator: Principal
) -> None:
    async with mesh.process(JOINING) as one, mesh.process(JOINING) as other:
        instance = await register(one, operator, "127.0.0.1:5")
        instance_id = instance.agent_instance_id
        assert (instance.state, instance.weight) == (ONLINE, 1)
        seen = await said(other, operator, beat(instance_id, BUSY))
        assert (seen.state, seen.weight) == (ONLINE, 20)
        seen = await said(one, operator, beat(instance_id, IDLE))
        assert (seen.weight, seen.load) == (85, IDLE)

        async def is_unknown() -> bool:
            return await state_of(other, operator, "127.0.0.1:5") == UNKNOWN

        await eventually(is_unknown)
        assert (await said(other, operator, beat(instance_id))).state == ONLINE
        async with beating(one, operator, instance_id) as older:

            async def is_heard() -> bool:
                return await state_of(one, operator, "127.0.0.1:5") == ONLINE

            await eventually(is_heard)
            async with beating(other, operator, instance_id) as newer:
                await eventually(lambda: older.ended is not None)
                assert newer.ended is None
        assert isinstance(older.ended, Aborted)
        assert (older.ended.reason, newer.ended) == ("CONFLICT", None)
        left = await said(one, operator, beat(instance_id, draining=True))
        assert left.state == OFFLINE
        with pytest.raises(NotFound) as gone:
            await said(other, operator, beat(instance_id))
        assert gone.value.reason == "AGENT_INSTANCE_NOT_FOUND"
        with pytest.raises(InvalidArgument, match="cpu_free"):
            await said(one, operator, beat(instance_id, agent_pb2.AgentLoad(cpu_free=2)))
        back = await register(other, operator, "127.0.0.1:5")
        assert back.agent_instance_id != instance_id


async def test_work_is_shared_out_by_weight(mesh: Mesh, operator: Principal) -> None:
    async with (
        mesh.process(JOINING) as stubs,
        serving(mesh, "idle", "busy") as (idle, busy),
        joined(stubs, operator, [idle, busy]) as pulses,
    ):
        pulses[1].load = BUSY

        async def is_weighed() -> bool:
            found = await instances_of(stubs, operator)
            return {one.weight for one in found.values()} == {85, 20}

        await eventually(is_weighed)
        before = Counter({"idle": len(idle.asked), "busy": len(busy.asked)})
        for _ in range(21):
            await run(stubs, mesh.caller, request("Rain?", agent="weather"))
        shares = Counter({"idle": len(idle.asked), "busy": len(busy.asked)}) - before
    # 85 to 20: of 21 turns 17 and 4, give or take one.
    assert abs(shares["idle"] - 17) <= 1
    assert abs(shares["busy"] - 4) <= 1


async def test_draining_instance_takes_nothing_new(mesh: Mesh, operator: Principal) -> None:
    async with (
        mesh.process(JOINING) as stubs,
        serving(mesh, "leaving", "staying") as (leaving, staying),
        joined(stubs, operator, [leaving, staying]) as pulses,
    ):
        pulses[0].draining = True

        async def is_draining() -> bool:
            return await state_of(stubs, operator, leaving.address) == DRAINING

        await eventually(is_draining)
        for _ in range(4):
            await run(stubs, mesh.caller, request("Rain?", agent="weather"))
    assert (len(leaving.asked), len(staying.asked)) == (0, 4)


async def test_death_of_an_instance_lets_another_one_answer_once(
    mesh: Mesh, operator: Principal
) -> None:
    async with (
        mesh.process(JOINING) as stubs,
        serving(mesh, "one", "two", held=True) as programs,
        joined(stubs, operator, programs),
        asyncio.TaskGroup() as group,
    ):
        asking = group.create_task(run(stubs, mesh.caller, request("Rain?", agent="weather")))
        await eventually(lambda: any(program.running for program in programs))
        (dying,) = (program for program in programs if program.running)
        (other,) = (program for program in programs if program is not dying)
        await dying.die()
        await eventually(lambda: bool(other.running))
        assert other.held is not None
        other.held.set()
        events = await asking
    assert text_of(events) == f"{other.name}: Rain?" == events[-1].final.answer
    assert kinds(events).count("checkpoint") == 1
    assert dying.asked == other.asked == [events[0].task_id]
    ((steps,),) = await mesh.rows("SELECT count(*) FROM orchestrator.steps WHERE tenant_id = $1")
    assert steps == 1


async def test_task_of_an_instance_that_falls_silent_goes_to_another(
    mesh: Mesh, operator: Principal
) -> None:
    async with (
        mesh.process(JOINING) as stubs,
        serving(mesh, "one", "two", held=True) as programs,
        joined(stubs, operator, programs) as pulses,
        asyncio.TaskGroup() as group,
    ):
        asking = group.create_task(run(stubs, mesh.caller, request("Rain?", agent="weather")))
        await eventually(lambda: any(program.running for program in programs))
        hanging, other = sorted(programs, key=lambda program: not program.running)
        pulses[list(programs).index(hanging)].silent = True
        await eventually(lambda: bool(other.running) and not hanging.running)
        assert other.held is not None
        other.held.set()
        events = await asking
    assert events[-1].final.answer == f"{other.name}: Rain?"


async def test_task_whose_process_died_follows_what_goes_on_at_the_instance(
    mesh: Mesh, operator: Principal
) -> None:
    async with serving(mesh, "one", "two", held=True) as programs:
        async with mesh.process(JOINING) as stubs:
            beats = [
                (await register(stubs, operator, program.address)).agent_instance_id
                for program in programs
            ]
            for instance_id in beats:
                await said(stubs, operator, beat(instance_id))
            submit = agent_service_pb2.SubmitTaskRequest(
                spec=request("Rain?", agent="weather").spec
            )
            with acting(mesh.caller):
                task_id = (await stubs.agents.SubmitTask(submit)).task.task_id
            await eventually(lambda: any(program.running for program in programs))
            (first,) = (program for program in programs if program.running)
        for program in programs:
            assert program.held is not None
            program.held.set()
        again = JOINING.model_copy(update={"sweep_seconds": 0.1})
        async with mesh.process(again) as stubs, joined(stubs, operator, programs):
            assert await ended(stubs, mesh, task_id) == task_pb2.TASK_STATE_COMPLETED
    assert first.asked == [task_id, task_id]
    assert sum(len(program.asked) for program in programs) == 2
    assert first.cancelled == []


async def test_cancel_reaches_the_instance(mesh: Mesh, operator: Principal) -> None:
    async with (
        mesh.process(JOINING) as stubs,
        serving(mesh, "one", held=True) as (one,),
        joined(stubs, operator, [one]),
    ):
        submit = agent_service_pb2.SubmitTaskRequest(spec=request("Rain?", agent="weather").spec)
        with acting(mesh.caller):
            task_id = (await stubs.agents.SubmitTask(submit)).task.task_id
        await eventually(lambda: bool(one.running))
        with acting(mesh.caller):
            await stubs.agents.CancelTask(agent_service_pb2.CancelTaskRequest(task_id=task_id))
        await eventually(lambda: bool(one.cancelled) and not one.running)
    assert one.cancelled == [f"mine-{task_id}"]


async def test_instance_takes_as_many_tasks_as_it_said(mesh: Mesh, operator: Principal) -> None:
    async with (
        mesh.process(JOINING) as stubs,
        serving(mesh, "one", held=True) as (one,),
        joined(stubs, operator, [one], max_concurrent_tasks=2),
        asyncio.TaskGroup() as group,
    ):
        asking = [
            group.create_task(run(stubs, mesh.caller, request(f"{n}", agent="weather")))
            for n in range(3)
        ]
        await eventually(lambda: one.running == 2)
        assert one.held is not None
        one.held.set()
        answers = [(await task)[-1].final.answer for task in asking]
    assert answers == ["one: 0", "one: 1", "one: 2"]
    assert one.most == 2


async def test_task_without_an_instance_says_so(mesh: Mesh, operator: Principal) -> None:
    remote = JOINING.remote_agents.model_copy(update={"wait_seconds": 0})
    impatient = JOINING.model_copy(update={"remote_agents": remote})
    async with mesh.process(impatient) as stubs:
        instance = await register(stubs, operator, "127.0.0.1:5")
        await said(stubs, operator, beat(instance.agent_instance_id, draining=True))
        events = await run(stubs, mesh.caller, request("Rain?", agent="weather"))
    assert events[-1].error.reason == "UNAVAILABLE"
    assert "weather" in events[-1].error.message
    assert events[-1].error.retryable


async def state_of(stubs: Stubs, caller: Principal, address: str) -> int:
    """Return the state of the instance at an address."""
    return int((await instances_of(stubs, caller))[address].state)


async def ended(stubs: Stubs, mesh: Mesh, task_id: str) -> int:
    """Return the state in which a task ended."""
    states: list[int] = []

    async def is_over() -> bool:
        with acting(mesh.caller):
            task = await stubs.agents.GetTask(agent_service_pb2.GetTaskRequest(task_id=task_id))
        states.append(task.task.state)
        return bool(task.task.HasField("end_time"))

    await eventually(is_over)
    return states[-1]
