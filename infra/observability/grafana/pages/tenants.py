"""The dashboard "Tenants"."""

from __future__ import annotations

from typing import Final

from panels import Dashboard, Panel, Query
from queries import RATE

TENANTS: Final = Dashboard(
    "meshwright-tenants",
    "Tenants",
    "What tenants run into, together: no metric names one, for their number has no bound and "
    "administrators of tenants may read metrics. Who it is say `meshwright tenants quota SLUG` and "
    "`meshwright tenants usage SLUG`.",
    (
        (
            "Refused",
            (
                Panel(
                    "By quota",
                    "A plan's limit was reached.",
                    (
                        Query(
                            f"sum by (quota) (rate(meshwright_quota_refused_total[{RATE}])) "
                            "or vector(0)",
                            "{{quota}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "By plan",
                    "Many of one plan: the plan is too small, or somebody runs wild.",
                    (
                        Query(
                            f"sum by (plan) (rate(meshwright_quota_refused_total[{RATE}])) "
                            "or vector(0)",
                            "{{plan}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "By limit of requests",
                    "429 at the gateway.",
                    (
                        Query(
                            f"sum by (limit) (rate(meshwright_limits_refused_total[{RATE}])) "
                            "or vector(0)",
                            "{{limit}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "By budget",
                    "Attempts of the router, by budget and scope.",
                    (
                        Query(
                            "sum by (budget, scope) "
                            f"(rate(meshwright_budget_refused_total[{RATE}])) or vector(0)",
                            "{{budget}} {{scope}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "For load, by priority",
                    "503 at the gateway: not the tenant's fault.",
                    (
                        Query(
                            f"sum by (priority) (rate(meshwright_load_shed_total[{RATE}])) "
                            "or vector(0)",
                            "{{priority}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Not let in",
                    "401 and 403 at the gateway.",
                    (
                        Query(
                            "sum by (status) (rate(meshwright_http_server_seconds_count"
                            f'{{status=~"401|403"}}[{RATE}])) or vector(0)',
                            "{{status}}",
                        ),
                    ),
                    "reqps",
                ),
            ),
        ),
        (
            "Used",
            (
                Panel(
                    "Turns under way",
                    "Of all tenants.",
                    (Query("sum(meshwright_turns_running)", "turns"),),
                    "none",
                ),
                Panel(
                    "Tokens of the last day",
                    "By deployment; (tenant): deployments that tenants made.",
                    (
                        Query(
                            "sum by (deployment) (increase(meshwright_model_tokens_total[1d]))",
                            "{{deployment}}",
                        ),
                    ),
                    "short",
                    "bargauge",
                ),
                Panel(
                    "Cost of the last day",
                    "In US dollars, by deployment.",
                    (
                        Query(
                            "sum by (deployment) "
                            "(increase(meshwright_model_cost_micro_usd_total[1d])) / 1e6",
                            "{{deployment}}",
                        ),
                    ),
                    "currencyUSD",
                    "bargauge",
                ),
            ),
        ),
    ),
)
