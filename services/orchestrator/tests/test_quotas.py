"""Tasks begin while their tenant may, and what was begun before is found again."""

import pytest

from meshwright.session.v1 import tenant_pb2
from meshwright_common.errors import FailedPrecondition, ResourceExhausted
from services.orchestrator.tests.mesh import Mesh
from services.orchestrator.tests.test_submit import NOOP, submit

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(170)]


def spend(mesh: Mesh) -> None:
    """Let the tokens of the day be spent."""
    tenant_id = mesh.caller.tenant_id
    mesh.directory.limits[tenant_id] = tenant_pb2.Quota(max_tokens_per_day=10)
    mesh.directory.used[tenant_id] = tenant_pb2.Quota(max_tokens_per_day=10)


async def test_with_the_tokens_spent_no_task_is_taken_and_a_repeated_one_is_found(
    mesh: Mesh,
) -> None:
    async with mesh.process(NOOP) as stubs:
        first = await submit(stubs, mesh, request_id="once")
    spend(mesh)
    async with mesh.process(NOOP) as stubs:
        assert first.task_id == (await submit(stubs, mesh, request_id="once")).task_id
        with pytest.raises(ResourceExhausted) as refused:
            await submit(stubs, mesh, request_id="another")
        assert ("QUOTA_EXCEEDED", "tokens_per_day") == (
            refused.value.reason,
            refused.value.metadata["quota"],
        )
        with pytest.raises(ResourceExhausted):
            await submit(stubs, mesh)


async def test_a_suspended_tenant_submits_nothing(mesh: Mesh) -> None:
    mesh.directory.suspended.add(mesh.caller.tenant_id)
    async with mesh.process(NOOP) as stubs:
        with pytest.raises(FailedPrecondition) as refused:
            await submit(stubs, mesh)
    assert "TENANT_SUSPENDED" == refused.value.reason
