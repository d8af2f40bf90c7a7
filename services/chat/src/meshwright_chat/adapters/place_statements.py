"""The statements about places of sessions. $1 is the tenant in each but the lock."""

from typing import Final

from meshwright_chat.adapters.turn_rows import COLUMNS

LOCK_SESSION: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('meshwright.chat.session/' || $1, 0))
"""

HOLDER: Final = f"""
SELECT {COLUMNS} FROM chat.turns
 WHERE tenant_id = $1 AND session_id = $2 AND state IN ('running', 'waiting', 'stopping')
   FOR NO KEY UPDATE
"""  # noqa: S608 - constant columns

QUEUE: Final = """
SELECT count(*) FILTER (WHERE queue_class <= $3) AS ahead,
       coalesce(max(queue_number) FILTER (WHERE queue_class = $3), 0) AS last
  FROM chat.turns WHERE tenant_id = $1 AND session_id = $2 AND state = 'queued'
"""

JOIN: Final = """
INSERT INTO chat.turns (tenant_id, turn_id, session_id, subject, owner, agent, model,
    knowledge_base_ids, request, request_id, request_digest, regenerates, state, attempt,
    lease_expires_at, queue_class, queue_number, queue_expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'queued', 0,
    clock_timestamp(), $13, $14, clock_timestamp() + make_interval(secs => $15))
RETURNING queue_expires_at
"""

STOP: Final = f"""
UPDATE chat.turns
   SET state = 'stopping', stop_policy = $3, cancelled_by = $4, lease_epoch = lease_epoch + 1,
       lease_expires_at = clock_timestamp() + make_interval(secs => $5), look_at = NULL
 WHERE tenant_id = $1 AND turn_id = $2 AND state IN ('running', 'waiting')
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

STOP_NEXT: Final = """
UPDATE chat.turns SET stop_policy = $3, cancelled_by = $4
 WHERE tenant_id = $1 AND session_id = $2 AND state = 'queued' AND queue_class = 1
   AND stop_policy = ''
"""

SETTLED: Final = """
UPDATE chat.turns
   SET state = $4, outcome = $5, message_id = $6, context_version = $7, usage = $8,
       last_sequence = $9, withdrawn = $10, request = coalesce($11, request),
       cancelled_by = CASE $4 WHEN 'completed' THEN '' ELSE cancelled_by END,
       waiting = NULL, waiting_since = NULL, ended_at = clock_timestamp()
 WHERE tenant_id = $1 AND turn_id = $2 AND lease_epoch = $3 AND state = 'stopping'
"""

PAUSE: Final = """
UPDATE chat.turns
   SET state = 'waiting', waiting = $4, last_sequence = $5, waiting_since = clock_timestamp(),
       look_at = clock_timestamp() + make_interval(secs => $6)
 WHERE tenant_id = $1 AND turn_id = $2 AND lease_epoch = $3 AND state = 'running'
"""

FIND: Final = f"""
SELECT {COLUMNS} FROM chat.turns WHERE tenant_id = $1 AND turn_id = $2
"""  # noqa: S608 - constant columns

LOOKED: Final = """
UPDATE chat.turns
   SET waiting = coalesce($4, waiting),
       look_at = clock_timestamp() + least(greatest(
           (clock_timestamp() - waiting_since) * $5, make_interval(secs => $6)),
           make_interval(secs => $7))
 WHERE tenant_id = $1 AND turn_id = $2 AND lease_epoch = $3 AND state = 'waiting'
"""

RESUME: Final = f"""
UPDATE chat.turns
   SET state = 'running', waiting = NULL, waiting_since = NULL, look_at = NULL,
       lease_epoch = lease_epoch + 1,
       lease_expires_at = clock_timestamp() + make_interval(secs => $4)
 WHERE tenant_id = $1 AND turn_id = $2 AND lease_epoch = $3 AND state = 'waiting'
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns

GIVE_UP: Final = """
UPDATE chat.turns
   SET state = 'failed', outcome = $3, error_reason = $4, error_retryable = $5,
       last_sequence = $6, ended_at = clock_timestamp()
 WHERE tenant_id = $1 AND turn_id = $2 AND state = 'queued'
"""

LATER: Final = """
SELECT EXISTS (SELECT FROM chat.turns
                WHERE tenant_id = $1 AND session_id = $2 AND NOT withdrawn
                  AND (created_at, turn_id) > ($3, $4::uuid))
"""

RATE: Final = f"""
UPDATE chat.turns SET rating = $3, rating_comment = $4
 WHERE tenant_id = $1 AND turn_id = $2 AND state IN ('completed', 'failed', 'cancelled')
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns
