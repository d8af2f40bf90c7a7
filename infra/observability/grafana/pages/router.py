"""The dashboard "Router and cost"."""

from __future__ import annotations

from typing import Final

from panels import Dashboard, Panel, Query
from queries import DEPLOYMENT, RATE, quantile, rate

ROUTER: Final = Dashboard(
    "meshwright-router",
    "Router and cost",
    "Models: what answers, how fast, what it costs. Deployments of tenants are one: (tenant).",
    (
        (
            "Calls",
            (
                Panel(
                    "Calls by outcome",
                    "Cancelled: the client left.",
                    (
                        Query(
                            rate("meshwright_model_call_seconds_count", "outcome", DEPLOYMENT),
                            "{{outcome}}",
                        ),
                    ),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Calls by deployment",
                    "Of all operations.",
                    (
                        Query(
                            rate("meshwright_model_call_seconds_count", "deployment", DEPLOYMENT),
                            "{{deployment}}",
                        ),
                    ),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Failed",
                    "Share of the calls of a deployment.",
                    (
                        Query(
                            rate(
                                "meshwright_model_call_seconds_count",
                                "deployment",
                                f'outcome="failed",{DEPLOYMENT}',
                            )
                            + " / "
                            + rate("meshwright_model_call_seconds_count", "deployment", DEPLOYMENT)
                            + " or vector(0)",
                            "{{deployment}}",
                        ),
                    ),
                    "percentunit",
                    warn=0.05,
                    bad=0.5,
                ),
                Panel(
                    "First token, by deployment",
                    "95th percentile, from the request to the provider.",
                    (
                        Query(
                            quantile(
                                "0.95",
                                "meshwright_model_first_token_seconds",
                                "deployment",
                                DEPLOYMENT,
                            ),
                            "{{deployment}}",
                            exemplar=True,
                        ),
                    ),
                    "s",
                    warn=2,
                    bad=10,
                ),
                Panel(
                    "Whole calls, by operation",
                    "95th percentile.",
                    (
                        Query(
                            quantile(
                                "0.95", "meshwright_model_call_seconds", "operation", DEPLOYMENT
                            ),
                            "{{operation}}",
                            exemplar=True,
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Resting",
                    "Deployments whose breaker is open, and what changed.",
                    (
                        Query("sum(meshwright_model_resting) or vector(0)", "resting"),
                        Query(
                            f"sum(increase(meshwright_model_health_changes_total[{RATE}])) "
                            "or vector(0)",
                            "changes",
                        ),
                        Query(
                            f"sum(rate(meshwright_model_repeats_total[{RATE}])) or vector(0)",
                            "repeated a second",
                        ),
                    ),
                    "none",
                    warn=1,
                ),
            ),
        ),
        (
            "Tokens and cost",
            (
                Panel(
                    "Tokens",
                    "Read (prompt) and written (completion).",
                    (Query(rate("meshwright_model_tokens_total", "kind", DEPLOYMENT), "{{kind}}"),),
                    "short",
                    stacked=True,
                ),
                Panel(
                    "Tokens by deployment",
                    "Both kinds.",
                    (
                        Query(
                            rate("meshwright_model_tokens_total", "deployment", DEPLOYMENT),
                            "{{deployment}}",
                        ),
                    ),
                    "short",
                    stacked=True,
                ),
                Panel(
                    "Cost an hour",
                    "In US dollars, by the prices that are set; a deployment without one costs 0.",
                    (
                        Query(
                            "sum by (deployment) "
                            f"(rate(meshwright_model_cost_micro_usd_total{{{DEPLOYMENT}}}[{RATE}]))"
                            " * 3600 / 1e6",
                            "{{deployment}}",
                        ),
                    ),
                    "currencyUSD",
                    stacked=True,
                ),
                Panel(
                    "Cost of the last day",
                    "In US dollars.",
                    (Query("sum(increase(meshwright_model_cost_micro_usd_total[1d])) / 1e6"),),
                    "currencyUSD",
                    "stat",
                ),
                Panel(
                    "Stored answers",
                    "Calls that asked for them: hit costs nothing.",
                    (
                        Query(
                            f"sum by (status) "
                            f"(rate(meshwright_model_answer_cache_calls_total[{RATE}])) "
                            "or vector(0)",
                            "{{status}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Guards",
                    "What they found, by what they did about it.",
                    (
                        Query(
                            f"sum by (action) "
                            f"(rate(meshwright_model_guard_findings_total[{RATE}])) or vector(0)",
                            "{{action}}",
                        ),
                    ),
                    "reqps",
                ),
            ),
        ),
        (
            "Budgets",
            (
                Panel(
                    "Refused",
                    "Attempts, by the scope of the budget that was full.",
                    (
                        Query(
                            f"sum by (scope) (rate(meshwright_budget_refused_total[{RATE}])) "
                            "or vector(0)",
                            "{{scope}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Corrections",
                    "Tokens beyond what was held, and tokens by which Redis differed.",
                    (
                        Query(
                            f"sum(rate(meshwright_budget_overrun_tokens_total[{RATE}]))", "overrun"
                        ),
                        Query(f"sum(rate(meshwright_budget_drift_tokens_total[{RATE}]))", "drift"),
                    ),
                    "short",
                ),
                Panel(
                    "Without Redis",
                    "1 while budgets are counted without it; days counted again, attempts lost.",
                    (
                        Query("max(meshwright_budget_redis_away)", "away"),
                        Query(f"sum(increase(meshwright_budget_rebuilt_total[{RATE}]))", "rebuilt"),
                        Query(
                            f"sum(increase(meshwright_budget_lost_attempts_total[{RATE}]))", "lost"
                        ),
                        Query(f"sum(increase(meshwright_budget_shared_total[{RATE}]))", "shared"),
                    ),
                    "none",
                    warn=1,
                ),
            ),
        ),
    ),
    (("deployment", "meshwright_model_call_seconds_count"),),
)
