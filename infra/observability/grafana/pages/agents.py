"""The dashboard "Agents"."""

from __future__ import annotations

from typing import Final

from panels import Dashboard, Panel, Query
from queries import AGENT, RATE, quantile, quantiles, rate

AGENTS: Final = Dashboard(
    "meshwright-agents",
    "Agents",
    "Tasks and who does them: queues, workers, agents that joined, schedules.",
    (
        (
            "Tasks",
            (
                Panel(
                    "Backlog by lane",
                    "Tasks that wait for a worker. Above 1 000 somebody is woken.",
                    (Query("lane:meshwright_task_backlog:max", "{{lane}}"),),
                    "none",
                    warn=500,
                    bad=1000,
                    stacked=True,
                ),
                Panel(
                    "From acceptance to beginning",
                    "Of submitted tasks.",
                    quantiles("meshwright_task_dispatch_seconds"),
                    "s",
                    warn=5,
                    bad=60,
                ),
                Panel(
                    "Under way",
                    "By process of the orchestrator.",
                    (Query("meshwright_tasks_running", "{{instance}}"),),
                    "none",
                    stacked=True,
                ),
                Panel(
                    "Dispatch that failed",
                    "The work queues did not take a batch.",
                    (
                        Query(
                            f"sum(rate(meshwright_task_failed_dispatches_total[{RATE}]))", "batches"
                        ),
                    ),
                    "short",
                    bad=0.01,
                ),
                Panel(
                    "Taken over",
                    "The lease of a process ran out.",
                    (
                        Query(
                            "sum by (instance) "
                            f"(increase(meshwright_task_takeovers_total[{RATE}]))",
                            "{{instance}}",
                        ),
                    ),
                    "none",
                    warn=1,
                ),
                Panel(
                    "Tools",
                    "Calls of the tool service by code.",
                    (
                        Query(
                            rate(
                                "meshwright_rpc_server_seconds_count",
                                "code",
                                'method=~"/meshwright.tool_exec.*"',
                            )
                            + " or vector(0)",
                            "{{code}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "MCP servers",
                    "By whose they are and how they do. Each tenant's is counted once, the "
                    "operator's once a process.",
                    (
                        Query(
                            "sum by (owner, state) (meshwright_mcp_servers) or vector(0)",
                            "{{owner}} {{state}}",
                        ),
                    ),
                    "none",
                    stacked=True,
                ),
            ),
        ),
        (
            "Agents that joined",
            (
                Panel(
                    "Instances",
                    "unknown: silent, and given no tasks.",
                    (
                        Query(
                            "sum by (agent, state) "
                            f"(agent:meshwright_agent_instances:max{{{AGENT}}}) or vector(0)",
                            "{{agent}} {{state}}",
                        ),
                    ),
                    "none",
                ),
                Panel(
                    "Silent",
                    "Share of an agent's instances.",
                    (
                        Query(
                            f"agent:meshwright_agent_silent:ratio{{{AGENT}}} or vector(0)",
                            "{{agent}}",
                        ),
                    ),
                    "percentunit",
                    warn=0.01,
                    bad=1,
                ),
                Panel(
                    "Tasks they have",
                    "As they say themselves, and the weight of those online.",
                    (
                        Query(
                            f"agent:meshwright_agent_pending_tasks:max{{{AGENT}}} or vector(0)",
                            "{{agent}} tasks",
                        ),
                        Query(
                            f"agent:meshwright_agent_weight:max{{{AGENT}}} or vector(0)",
                            "{{agent}} weight",
                        ),
                    ),
                    "none",
                ),
            ),
        ),
        (
            "Schedules",
            (
                Panel(
                    "Fired",
                    "Tasks and workflows that schedules started.",
                    (Query(f"sum(rate(meshwright_schedule_runs_total[{RATE}]))", "fired"),),
                    "short",
                ),
                Panel(
                    "Late by",
                    "95th percentile, from the moment of a schedule to the start of its run.",
                    (
                        Query(
                            quantile("0.95", "meshwright_schedule_delay_seconds") + " or vector(0)",
                            "p95",
                        ),
                    ),
                    "s",
                    warn=10,
                    bad=60,
                ),
                Panel(
                    "Looks that failed",
                    "They are looked at again.",
                    (Query(f"sum(rate(meshwright_schedule_failures_total[{RATE}]))", "a second"),),
                    "short",
                    warn=0.1,
                ),
            ),
        ),
    ),
    (("agent", "meshwright_agent_instances"),),
)
