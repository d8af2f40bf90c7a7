"""BudgetService: what of the caller's budgets is used."""

from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from meshwright.model_router.v1 import budget_service_pb2
from meshwright.model_router.v1.budget_service_pb2_grpc import BudgetServiceServicer
from meshwright_common.context import principal
from meshwright_model_router.domain.budgets import BudgetReader, BudgetState

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class BudgetServicer(BudgetServiceServicer):
    """Serves BudgetService."""

    def __init__(self, budgets: BudgetReader) -> None:
        self._budgets = budgets

    async def ListBudgets(
        self,
        request: budget_service_pb2.ListBudgetsRequest,
        context: Context,
    ) -> budget_service_pb2.ListBudgetsResponse:
        """List the budgets of the caller's tenant, then its own."""
        caller = principal()
        user_id = caller.subject if caller.kind == "user" else ""
        states, degraded = await self._budgets.states(caller.tenant_id, user_id)
        return budget_service_pb2.ListBudgetsResponse(
            budgets=map(_message, states), degraded=degraded
        )


def _message(state: BudgetState) -> budget_service_pb2.Budget:
    reset = Timestamp()
    reset.FromDatetime(state.reset_at)
    return budget_service_pb2.Budget(
        name=state.name,
        scope=state.scope,
        limit=state.limit,
        used=state.used,
        reserved=state.reserved,
        reset_time=reset,
    )
