"""Shapes of budgets."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from meshwright_gateway.http.schemas.common import Output


class Budget(Output):
    """One budget of the current UTC day."""

    name: Literal["tokens_per_day", "cost_micro_usd_per_day"] = Field(
        description="Tokens count by the weight of the feature that asks. Money is millionths of a"
        " US dollar."
    )
    scope: Literal["tenant", "user"]
    limit: int | None = Field(description="Null: there is none, and it is only counted.")
    used: int = Field(description="Settled today.")
    reserved: int = Field(description="Held by calls that run.")
    reset_time: datetime = Field(description="When the day ends.")


class BudgetReport(Output):
    """Budgets, the tenant's first."""

    budgets: list[Budget]
    degraded: bool = Field(
        description="True while the shared counts are away: what the ledger has, and what one"
        " process holds."
    )
