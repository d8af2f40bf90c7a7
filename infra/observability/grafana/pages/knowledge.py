"""The dashboard "Knowledge"."""

from __future__ import annotations

from typing import Final

from panels import Dashboard, Panel, Query
from queries import RATE, quantile, rate

KNOWLEDGE: Final = Dashboard(
    "meshwright-knowledge",
    "Knowledge",
    "Documents on their way into the indexes, and searches out of them.",
    (
        (
            "Search",
            (
                Panel(
                    "Searches",
                    "Calls of the retrieval service by their code.",
                    (
                        Query(
                            rate(
                                "meshwright_rpc_server_seconds_count",
                                "code",
                                'method=~".*RetrievalService.*"',
                            )
                            + " or vector(0)",
                            "{{code}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Time of a search",
                    "With its embedding; 95th percentile by method.",
                    (
                        Query(
                            quantile(
                                "0.95",
                                "meshwright_rpc_server_seconds",
                                "method",
                                'method=~".*RetrievalService.*"',
                            )
                            + " or vector(0)",
                            "{{method}}",
                            exemplar=True,
                        ),
                    ),
                    "s",
                    warn=0.5,
                    bad=2,
                ),
                Panel(
                    "Searches with one side",
                    "An index was away: the answers say so.",
                    (
                        Query(
                            "sum by (missing) "
                            f"(rate(meshwright_rag_degraded_searches_total[{RATE}])) or vector(0)",
                            "{{missing}}",
                        ),
                    ),
                    "reqps",
                    warn=0.1,
                ),
            ),
        ),
        (
            "Indexing",
            (
                Panel(
                    "Work",
                    "Attempts by kind and outcome.",
                    (
                        Query(
                            rate("meshwright_rag_work_seconds_count", "kind, outcome"),
                            "{{kind}} {{outcome}}",
                        ),
                    ),
                    "short",
                    stacked=True,
                ),
                Panel(
                    "Time of an attempt",
                    "95th percentile by kind; parsing and embedding of large documents take long.",
                    (Query(quantile("0.95", "meshwright_rag_work_seconds", "kind"), "{{kind}}"),),
                    "s",
                ),
                Panel(
                    "Embedding",
                    "Calls of the router for it.",
                    (
                        Query(
                            rate(
                                "meshwright_model_call_seconds_count",
                                "deployment, outcome",
                                'operation="embed"',
                            ),
                            "{{deployment}} {{outcome}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Events of documents",
                    "Before the consumer that indexes.",
                    (
                        Query(
                            'sum by (topic) (meshwright_consumer_lag{consumer=~"rag-.*"}) '
                            "or vector(0)",
                            "{{topic}}",
                        ),
                    ),
                    "none",
                ),
                Panel(
                    "Memories",
                    "Writes to the index of what users asked to remember.",
                    (
                        Query(
                            f"sum by (kind) (rate(meshwright_rag_memory_writes_total[{RATE}])) "
                            "or vector(0)",
                            "{{kind}}",
                        ),
                    ),
                    "reqps",
                ),
                Panel(
                    "Breakers to rag",
                    "Who gives rag a pause.",
                    (
                        Query(
                            'sum by (service) (meshwright_rpc_client_breaker_open{peer="rag"})',
                            "{{service}}",
                        ),
                    ),
                    "none",
                    bad=1,
                ),
            ),
        ),
    ),
)
