"""Every metric name, once. Renaming one breaks dashboards: treat it as an interface."""

from typing import Final

RPC_SERVER_SECONDS: Final = "meshwright_rpc_server_seconds"
RPC_SERVER_RUNNING: Final = "meshwright_rpc_server_running"
RPC_CLIENT_RETRIES: Final = "meshwright_rpc_client_retries"
RPC_CLIENT_INSTANCES: Final = "meshwright_rpc_client_instances"
RPC_CLIENT_EJECTIONS: Final = "meshwright_rpc_client_ejections"
RPC_CLIENT_BREAKER_OPENINGS: Final = "meshwright_rpc_client_breaker_openings"

MODEL_CALL_SECONDS: Final = "meshwright_model_call_seconds"
MODEL_FIRST_TOKEN_SECONDS: Final = "meshwright_model_first_token_seconds"  # noqa: S105 -- of text
MODEL_TOKENS: Final = "meshwright_model_tokens"
MODEL_COST_MICRO_USD: Final = "meshwright_model_cost_micro_usd"
MODELS_FILE_REFUSED: Final = "meshwright_models_file_refused"
MODEL_ANSWER_CACHE_CALLS: Final = "meshwright_model_answer_cache_calls"
MODEL_GUARD_FINDINGS: Final = "meshwright_model_guard_findings"
MODEL_REPEATS: Final = "meshwright_model_repeats"
MODEL_HEALTH_CHANGES: Final = "meshwright_model_health_changes"
MODEL_RESTING: Final = "meshwright_model_resting"

BUDGET_REFUSED: Final = "meshwright_budget_refused"
BUDGET_OVERRUN_TOKENS: Final = "meshwright_budget_overrun_tokens"
BUDGET_DRIFT_TOKENS: Final = "meshwright_budget_drift_tokens"
BUDGET_REBUILT: Final = "meshwright_budget_rebuilt"
BUDGET_LOST_ATTEMPTS: Final = "meshwright_budget_lost_attempts"
BUDGET_SHARED: Final = "meshwright_budget_shared"
BUDGET_REDIS_AWAY: Final = "meshwright_budget_redis_away"

HTTP_SERVER_SECONDS: Final = "meshwright_http_server_seconds"
HTTP_LONG_ANSWERS: Final = "meshwright_http_long_answers"
HTTP_CONNECTIONS: Final = "meshwright_http_connections"
LIMITS_REFUSED: Final = "meshwright_limits_refused"
LIMITS_ALONE: Final = "meshwright_limits_alone"
LIMITS_FILE_REFUSED: Final = "meshwright_limits_file_refused"
LOAD_SHED: Final = "meshwright_load_shed"
LOAD_LIMIT: Final = "meshwright_load_limit"
LOAD_RUNNING: Final = "meshwright_load_running"

RAG_WORK_SECONDS: Final = "meshwright_rag_work_seconds"
RAG_DEGRADED_SEARCHES: Final = "meshwright_rag_degraded_searches"
RAG_MEMORY_WRITES: Final = "meshwright_rag_memory_writes"

OUTBOX_WAITING: Final = "meshwright_outbox_waiting"
OUTBOX_OLDEST_SECONDS: Final = "meshwright_outbox_oldest_seconds"
OUTBOX_PUBLISHED: Final = "meshwright_outbox_published"
CONSUMER_LAG: Final = "meshwright_consumer_lag"
CONSUMER_BATCH_EVENTS: Final = "meshwright_consumer_batch_events"
CONSUMER_HANDLED: Final = "meshwright_consumer_handled"

TASK_BACKLOG: Final = "meshwright_task_backlog"
TASK_DISPATCH_SECONDS: Final = "meshwright_task_dispatch_seconds"
TASK_FAILED_DISPATCHES: Final = "meshwright_task_failed_dispatches"
SCHEDULE_RUNS: Final = "meshwright_schedule_runs"
SCHEDULE_FAILURES: Final = "meshwright_schedule_failures"

SESSION_WINDOW_LOADS: Final = "meshwright_session_window_loads"
SESSION_WINDOW_BYTES: Final = "meshwright_session_window_bytes"
SESSION_CHECKPOINT_BYTES: Final = "meshwright_session_checkpoint_bytes"
SESSION_CHECKPOINT_FAILURES: Final = "meshwright_session_checkpoint_failures"

AUDIT_CHECKPOINTS: Final = "meshwright_audit_checkpoints"
AUDIT_CHECKPOINT_CONFLICTS: Final = "meshwright_audit_checkpoint_conflicts"
