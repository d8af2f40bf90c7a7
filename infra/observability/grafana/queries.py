"""Expressions that many panels are made of."""

from __future__ import annotations

from typing import Final

from panels import Query

RATE: Final = "$__rate_interval"
HTTP: Final = 'route!~"/health/.*|/metrics"'
SERVICE: Final = 'service=~"$service"'
DEPLOYMENT: Final = 'deployment=~"$deployment"'
AGENT: Final = 'agent=~"$agent"'
CONSUMER: Final = 'consumer=~"$consumer"'


def rate(metric: str, by: str, where: str = "") -> str:
    """Return the rate of a counter, summed up by labels."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def quantile(share: str, metric: str, by: str = "", where: str = "") -> str:
    """Return a quantile of a histogram, by labels."""
    labels = f"{by}, le" if by else "le"
    return (
        f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[{RATE}])))"
    )


def quantiles(metric: str, where: str = "") -> tuple[Query, ...]:
    """Return the queries of median, 95th and 99th percentile, with exemplars."""
    return tuple(
        Query(quantile(f"0.{share}", metric, where=where), f"p{share}", exemplar=True)
        for share in (50, 95, 99)
    )
