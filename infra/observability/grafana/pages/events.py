"""The dashboard "Events and lag"."""

from __future__ import annotations

from typing import Final

from panels import Dashboard, Panel, Query
from queries import CONSUMER, RATE, quantile, rate

EVENTS: Final = Dashboard(
    "meshwright-events",
    "Events and lag",
    "The way of an event: outbox, broker, consumer, effect; and the audit log at its end.",
    (
        (
            "Outbox (with Kafka)",
            (
                Panel(
                    "Oldest event that waits",
                    "To be published.",
                    (Query("max(meshwright_outbox_oldest_seconds)", "oldest"),),
                    "s",
                    warn=60,
                    bad=300,
                ),
                Panel(
                    "Waiting",
                    "Events that are not published yet.",
                    (Query("max(meshwright_outbox_waiting)", "waiting"),),
                    "none",
                ),
                Panel(
                    "Published",
                    "Acknowledged by the broker; 1 while it is away.",
                    (
                        Query(f"sum(rate(meshwright_outbox_published_total[{RATE}]))", "a second"),
                        Query("max(meshwright_outbox_broker_away)", "broker away"),
                    ),
                    "short",
                ),
            ),
        ),
        (
            "Consumers",
            (
                Panel(
                    "Before a consumer",
                    "Events that it has not read.",
                    (
                        Query(
                            f"sum by (consumer, topic) (meshwright_consumer_lag{{{CONSUMER}}})",
                            "{{consumer}} {{topic}}",
                        ),
                    ),
                    "none",
                    warn=1000,
                    bad=10000,
                ),
                Panel(
                    "From the event to its effect",
                    "99th percentile of the oldest of each batch.",
                    (
                        Query(
                            f"consumer_topic:meshwright_consumer_delay_seconds:p99_5m{{{CONSUMER}}}",
                            "{{consumer}} {{topic}}",
                        ),
                    ),
                    "s",
                    warn=5,
                    bad=60,
                ),
                Panel(
                    "Applied",
                    "Events whose effect is there.",
                    (
                        Query(
                            rate(
                                "meshwright_consumer_handled_total",
                                "consumer",
                                f'result="applied",{CONSUMER}',
                            ),
                            "{{consumer}}",
                        ),
                    ),
                    "short",
                ),
                Panel(
                    "Not applied",
                    "deferred waits, failed is tried again, buried and malformed are given up.",
                    (
                        Query(
                            rate(
                                "meshwright_consumer_handled_total",
                                "result",
                                f'result!="applied",{CONSUMER}',
                            ),
                            "{{result}}",
                        ),
                    ),
                    "short",
                ),
                Panel(
                    "Dead letters of the last day",
                    "See `meshwright events dlq list`.",
                    (
                        Query(
                            "sum(increase(meshwright_consumer_handled_total"
                            '{result=~"buried|malformed"}[1d]))'
                        ),
                    ),
                    "none",
                    "stat",
                    bad=1,
                ),
                Panel(
                    "Batch",
                    "Median of the events read in one transaction.",
                    (
                        Query(
                            quantile(
                                "0.5", "meshwright_consumer_batch_events", "consumer", CONSUMER
                            ),
                            "{{consumer}}",
                        ),
                    ),
                    "none",
                ),
            ),
        ),
        (
            "Audit and webhooks",
            (
                Panel(
                    "Since the last round of signing",
                    "Each new record is covered by a signed checkpoint after a minute.",
                    (
                        Query(
                            "time() - max(meshwright_audit_checkpoint_round_timestamp_seconds)",
                            "since",
                        ),
                    ),
                    "s",
                    warn=60,
                    bad=300,
                ),
                Panel(
                    "Checkpoints",
                    "Signed, put off for a moment, in conflict with their copy, verified broken.",
                    (
                        Query(f"sum(rate(meshwright_audit_checkpoints_total[{RATE}]))", "signed"),
                        Query("max(meshwright_audit_checkpoints_postponed)", "put off"),
                        Query("max(meshwright_audit_checkpoint_conflicts)", "conflicts"),
                        Query(
                            "sum(increase(meshwright_audit_verifications_total"
                            f'{{result="broken"}}[{RATE}]))',
                            "broken",
                        ),
                    ),
                    "short",
                ),
                Panel(
                    "Webhooks",
                    "Attempts by the answer of the server that was told.",
                    (Query(rate("meshwright_webhook_attempts_total", "answer"), "{{answer}}"),),
                    "reqps",
                    stacked=True,
                ),
            ),
        ),
    ),
    (("consumer", "meshwright_consumer_lag"),),
)
