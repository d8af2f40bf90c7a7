"""Limits of tenants and their users, from the directory and the operator's rules."""

from meshwright_common.quotas import Quotas
from meshwright_model_router.domain.budget_rules import Limits, Rules


class QuotaLimits:
    """`TenantLimits` on what the directory says, a few seconds old at most."""

    def __init__(self, quotas: Quotas, rules: Rules) -> None:
        self._quotas = quotas
        self._rules = rules

    async def of(self, tenant_id: str) -> Limits:
        quota = await self._quotas.of(tenant_id)
        return Limits(
            plan=quota.plan,
            tenant_tokens=quota.tokens_per_day,
            tenant_micro_usd=quota.cost_micro_usd_per_day,
            user_tokens=self._rules.user_tokens(quota.plan),
        )
