"""What the answer cache did: metrics, and a usage record for each call that it answered."""

from __future__ import annotations

from typing import Final

from meshwright_common.context import current, principal
from meshwright_model_router.adapters.answer_metrics import ANSWER_CACHE_CALLS
from meshwright_model_router.domain.call import ModelCall
from meshwright_model_router.domain.output import CacheStatus, Started, TokenUsage
from meshwright_model_router.domain.ports import UsageLog
from meshwright_model_router.domain.usage import Operation, Outcome, UsageRecord

PROVIDER: Final = "cache"
"""What usage records name as the provider of stored answers."""
_HITS: Final = (CacheStatus.HIT, CacheStatus.SEMANTIC_HIT)


class UsageCacheLog:
    """`CacheLog`: hits are recorded without waiting, since they cost nothing."""

    def __init__(self, usage_log: UsageLog) -> None:
        self._usage_log = usage_log

    def told(self, call: ModelCall, started: Started) -> None:
        ANSWER_CACHE_CALLS.labels(started.cache_status.value).inc()
        if started.cache_status not in _HITS:
            return
        caller = principal()
        self._usage_log.submit(
            UsageRecord(
                tenant_id=caller.tenant_id,
                user_id=caller.subject if caller.kind == "user" else "",
                correlation_id=current().correlation_id,
                attribution=call.attribution,
                operation=Operation.GENERATE,
                outcome=Outcome.COMPLETED,
                model=started.model,
                deployment=started.deployment,
                provider=PROVIDER,
                usage=TokenUsage(),
                first_token_milliseconds=1,
                duration_milliseconds=1,
            )
        )
