"""The dashboard "Streams"."""

from __future__ import annotations

from typing import Final

from panels import Dashboard, Panel, Query
from queries import RATE, quantiles, rate

STREAMS: Final = Dashboard(
    "meshwright-streams",
    "Streams",
    "Turns as users see them: how soon they begin, whether they are told to their end.",
    (
        (
            "What users see",
            (
                Panel(
                    "Time to the first piece",
                    "From the question to the first text or reasoning, at the gateway.",
                    quantiles("meshwright_turn_first_token_seconds"),
                    "s",
                    warn=2,
                    bad=5,
                ),
                Panel(
                    "Late first pieces",
                    "More than 2 s: the objective allows 5 %.",
                    (Query("slo:meshwright_first_token_late:ratio_rate5m", "late"),),
                    "percentunit",
                    warn=0.05,
                    bad=0.3,
                ),
                Panel(
                    "How streams end",
                    "whole: told to the end. left: the client went. broken: our fault.",
                    (Query(rate("meshwright_turn_streams_total", "end"), "{{end}}"),),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Streams that went on",
                    "client: it came back with the last id. server: chat was asked again, unseen.",
                    (Query(rate("meshwright_turn_stream_resumes_total", "side"), "{{side}}"),),
                    "reqps",
                ),
                Panel(
                    "Broken",
                    "Share of streams that broke; the objective allows 0.1 %.",
                    (Query("slo:meshwright_streams_broken:ratio_rate5m", "broken"),),
                    "percentunit",
                    warn=0.001,
                    bad=0.0144,
                ),
                Panel(
                    "Connections",
                    "Of clients, with streams and other long answers among them.",
                    (
                        Query("sum(meshwright_http_connections)", "connections"),
                        Query("sum(meshwright_http_long_answers)", "long answers"),
                    ),
                    "none",
                ),
            ),
        ),
        (
            "Turns",
            (
                Panel(
                    "Under way",
                    "By process of chat.",
                    (Query("meshwright_turns_running", "{{instance}}"),),
                    "none",
                    stacked=True,
                ),
                Panel(
                    "How turns end",
                    "A failed turn has told its client why.",
                    (Query(rate("meshwright_turn_ends_total", "outcome"), "{{outcome}}"),),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Taken over",
                    "Readers see turn.restarted, and no more of it.",
                    (
                        Query(
                            "sum by (instance) "
                            f"(increase(meshwright_turn_takeovers_total[{RATE}]))",
                            "{{instance}}",
                        ),
                    ),
                    "none",
                    warn=1,
                ),
            ),
        ),
        (
            "Memory of sessions",
            (
                Panel(
                    "Windows loaded",
                    "l1: this process. l2: Redis. cold: PostgreSQL.",
                    (Query(rate("meshwright_session_window_loads_total", "level"), "{{level}}"),),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Windows held",
                    "Memory that windows of sessions take.",
                    (Query("sum by (level) (meshwright_session_window_bytes)", "{{level}}"),),
                    "bytes",
                ),
                Panel(
                    "Checkpoints in Redis",
                    "Bytes written, and reads and writes without an answer.",
                    (
                        Query(
                            f"sum(rate(meshwright_session_checkpoint_bytes_total[{RATE}]))",
                            "bytes a second",
                        ),
                        Query(
                            f"sum(rate(meshwright_session_checkpoint_failures_total[{RATE}]))",
                            "failures a second",
                        ),
                    ),
                    "short",
                ),
            ),
        ),
    ),
)
