"""The dashboard "Platform"."""

from __future__ import annotations

from typing import Final

from panels import Dashboard, Panel, Query
from queries import HTTP, RATE, SERVICE, quantile, quantiles, rate

PLATFORM: Final = Dashboard(
    "meshwright-platform",
    "Platform",
    "Begin here: is what we promise kept, and if not, which service is it?",
    (
        (
            "Objectives",
            (
                Panel(
                    "Requests that failed, 30 d objective 0.05 %",
                    "5xx among all answers of the gateways in the last hour.",
                    (Query("slo:meshwright_http_errors:ratio_rate1h"),),
                    "percentunit",
                    "stat",
                    warn=0.0005,
                    bad=0.0072,
                    width=6,
                ),
                Panel(
                    "Streams that broke, objective 0.1 %",
                    "Turns that a client could not follow to their end in the last hour.",
                    (Query("slo:meshwright_streams_broken:ratio_rate1h or vector(0)"),),
                    "percentunit",
                    "stat",
                    warn=0.001,
                    bad=0.0144,
                    width=6,
                ),
                Panel(
                    "Late first tokens, objective 5 %",
                    "Answers that took more than 2 s to begin in the last hour.",
                    (Query("slo:meshwright_first_token_late:ratio_rate1h or vector(0)"),),
                    "percentunit",
                    "stat",
                    warn=0.05,
                    bad=0.3,
                    width=6,
                ),
                Panel(
                    "Processes that answer",
                    "Scraped processes by service; a service at 0 is down.",
                    (Query('sum by (service) (up{job="meshwright"})', "{{service}}"),),
                    "none",
                    "stat",
                    width=6,
                ),
            ),
        ),
        (
            "The edge",
            (
                Panel(
                    "Requests",
                    "By class of status, without health checks.",
                    (
                        Query(
                            "sum by (class) (label_replace("
                            f"rate(meshwright_http_server_seconds_count{{{HTTP}}}[{RATE}]), "
                            '"class", "${1}xx", "status", "(.).*"))',
                            "{{class}}",
                        ),
                    ),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Time of requests",
                    "Whole answers, streams included: long is not bad there.",
                    quantiles("meshwright_http_server_seconds", HTTP),
                    "s",
                ),
                Panel(
                    "Failed requests by route",
                    "5xx, the five worst routes.",
                    (
                        Query(
                            "topk(5, "
                            + rate(
                                "meshwright_http_server_seconds_count",
                                "route",
                                f'status=~"5..",{HTTP}',
                            )
                            + ") or vector(0)",
                            "{{route}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Requests under way, and how many may be",
                    "On their way to the first byte. At the limit more are refused.",
                    (
                        Query("sum(meshwright_load_running)", "under way"),
                        Query("sum(meshwright_load_limit)", "limit"),
                    ),
                    "none",
                ),
                Panel(
                    "Refused",
                    "For load (503), and because a limit of requests was reached (429).",
                    (
                        Query(
                            f"sum(rate(meshwright_load_shed_total[{RATE}])) or vector(0)", "load"
                        ),
                        Query(
                            f"sum(rate(meshwright_limits_refused_total[{RATE}])) or vector(0)",
                            "limits",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Connections and long answers",
                    "Of clients, at all gateways.",
                    (
                        Query("sum(meshwright_http_connections)", "connections"),
                        Query("sum(meshwright_http_long_answers)", "long answers"),
                    ),
                    "none",
                ),
            ),
        ),
        (
            "Services",
            (
                Panel(
                    "Calls",
                    "gRPC calls served, also those inside one process.",
                    (
                        Query(
                            rate("meshwright_rpc_server_seconds_count", "service", SERVICE),
                            "{{service}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Calls that failed",
                    "UNAVAILABLE, INTERNAL, UNKNOWN, DATA_LOSS, DEADLINE_EXCEEDED among all.",
                    (
                        Query(
                            f"service:meshwright_rpc_errors:ratio_rate5m{{{SERVICE}}}",
                            "{{service}}",
                        ),
                    ),
                    "percentunit",
                    warn=0.01,
                    bad=0.1,
                ),
                Panel(
                    "Slowest methods",
                    "95th percentile, the ten slowest; streams last as long as their answers.",
                    (
                        Query(
                            "topk(10, "
                            + quantile("0.95", "meshwright_rpc_server_seconds", "method", SERVICE)
                            + ")",
                            "{{method}}",
                            exemplar=True,
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Breakers that are open",
                    "Who gives whom a pause because calls kept failing.",
                    (
                        Query(
                            "sum by (service, peer) "
                            f"(meshwright_rpc_client_breaker_open{{{SERVICE}}})",
                            "{{service}} to {{peer}}",
                        ),
                    ),
                    "none",
                    bad=1,
                ),
                Panel(
                    "Repeated calls",
                    "The peer was not reached: a restart shows here, and nowhere else.",
                    (
                        Query(
                            f"sum(rate(meshwright_rpc_client_retries_total[{RATE}])) or vector(0)",
                            "calls",
                        ),
                        Query(
                            "sum(rate(meshwright_rpc_client_ejections_total"
                            f"[{RATE}])) or vector(0)",
                            "instances left out",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Work taken over",
                    "Turns and tasks whose process died or stood still.",
                    (
                        Query(f"sum(increase(meshwright_turn_takeovers_total[{RATE}]))", "turns"),
                        Query(f"sum(increase(meshwright_task_takeovers_total[{RATE}]))", "tasks"),
                    ),
                    "none",
                    warn=1,
                ),
            ),
        ),
        (
            "What they stand on",
            (
                Panel(
                    "PostgreSQL: connections in use",
                    "Of the pools of all processes of a service.",
                    (
                        Query(
                            "sum by (service) (meshwright_database_connections"
                            f'{{state="used",{SERVICE}}})',
                            "{{service}}",
                        ),
                    ),
                    "none",
                ),
                Panel(
                    "PostgreSQL: waiting and refused",
                    "Callers that wait for a connection, and that got none.",
                    (
                        Query(f"sum(meshwright_database_waiting{{{SERVICE}}})", "waiting"),
                        Query(
                            f"sum(rate(meshwright_database_refused_total{{{SERVICE}}}[{RATE}]))",
                            "refused a second",
                        ),
                    ),
                    "none",
                    bad=1,
                ),
                Panel(
                    "Redis",
                    "Commands without an answer; 1 while limits or budgets are kept without it.",
                    (
                        Query(f"sum(rate(meshwright_redis_failures_total[{RATE}]))", "failures"),
                        Query("max(meshwright_limits_alone)", "limits alone"),
                        Query("max(meshwright_budget_redis_away)", "budgets alone"),
                    ),
                    "none",
                    bad=1,
                ),
                Panel(
                    "CPU",
                    "Cores in use.",
                    (Query(rate("process_cpu_seconds_total", "service", SERVICE), "{{service}}"),),
                    "none",
                    stacked=True,
                ),
                Panel(
                    "Memory",
                    "Resident, of all processes of a service.",
                    (
                        Query(
                            f"sum by (service) (process_resident_memory_bytes{{{SERVICE}}})",
                            "{{service}}",
                        ),
                    ),
                    "bytes",
                    stacked=True,
                ),
                Panel(
                    "What runs",
                    "Processes by version, as they say themselves.",
                    (Query("count by (process, version) (meshwright_build_info)"),),
                    "none",
                    "table",
                ),
            ),
        ),
    ),
    (("service", "up"),),
)
