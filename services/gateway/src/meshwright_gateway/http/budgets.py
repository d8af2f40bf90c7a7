"""What is used of the budgets of tokens and money."""

from typing import TYPE_CHECKING

from fastapi import APIRouter

from meshwright.model_router.v1 import budget_service_pb2
from meshwright_gateway.http.paging import API_PREFIX
from meshwright_gateway.http.schemas import budgets as schemas
from meshwright_gateway.wire import values

if TYPE_CHECKING:
    from meshwright.model_router.v1.budget_service_pb2_grpc import BudgetServiceAsyncStub


def budgets_router(budgets: "BudgetServiceAsyncStub") -> APIRouter:
    """Return the route of budgets."""
    router = APIRouter(prefix=API_PREFIX, tags=["records"])

    @router.get("/budgets")
    async def list_budgets() -> schemas.BudgetReport:
        """Budgets of the caller's tenant, and the caller's own. What running calls hold is beside
        what is used; both together never exceed the limit."""
        answer = await budgets.ListBudgets(budget_service_pb2.ListBudgetsRequest())
        return schemas.BudgetReport(
            budgets=[_view(one) for one in answer.budgets], degraded=answer.degraded
        )

    return router


def _view(budget: budget_service_pb2.Budget) -> schemas.Budget:
    return schemas.Budget.model_validate(
        {
            "name": budget.name,
            "scope": budget.scope,
            "limit": budget.limit or None,
            "used": budget.used,
            "reserved": budget.reserved,
            "reset_time": values.moment_from(budget.reset_time),
        }
    )
