"""SQL of instances of agents that joined."""

from typing import Final

COLUMNS: Final = (
    "agent_instance_id, agent, address, state, weight, cpu_free, memory_free, pending_tasks,"
    " error_rate, max_concurrent_tasks, labels, registered_at, heartbeat_at, stream_epoch"
)

# As those who define agents (postgres_agents.py): a name is one agent's.
TAKE_TURN: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('orchestrator.agents ' || $1, 0))
"""
IS_DEFINED: Final = """
SELECT EXISTS (SELECT FROM orchestrator.agents WHERE tenant_id = $1 AND name = $2)
"""
IS_JOINED: Final = """
SELECT EXISTS (SELECT FROM orchestrator.remote_agents WHERE tenant_id = $1 AND name = $2)
"""
KNOWN: Final = f"""
SELECT {COLUMNS} FROM orchestrator.agent_instances
 WHERE tenant_id = $1 AND agent = $2 AND address = $3 AND state <> 'offline'
"""  # noqa: S608 - constant columns
COUNT: Final = """
SELECT count(*) FROM orchestrator.agent_instances WHERE tenant_id = $1 AND state <> 'offline'
"""
PUT_AGENT: Final = """
INSERT INTO orchestrator.remote_agents (tenant_id, name, description) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, name) DO UPDATE SET updated_at = clock_timestamp()
"""
PUT_INSTANCE: Final = f"""
INSERT INTO orchestrator.agent_instances
    (tenant_id, agent_instance_id, agent, address, max_concurrent_tasks, labels)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns
# A draining instance that opens a new stream without saying so again is back.
BEAT: Final = f"""
UPDATE orchestrator.agent_instances
   SET state = $4, weight = $5, cpu_free = $6, memory_free = $7, pending_tasks = $8,
       error_rate = $9, heartbeat_at = clock_timestamp(), seen_at = clock_timestamp(),
       stream_epoch = CASE $3::bigint WHEN 0 THEN stream_epoch + 1 ELSE stream_epoch END
 WHERE tenant_id = $1 AND agent_instance_id = $2 AND state <> 'offline'
   AND $3::bigint IN (0, stream_epoch)
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns
LEAVE: Final = f"""
UPDATE orchestrator.agent_instances SET state = 'offline', seen_at = clock_timestamp()
 WHERE tenant_id = $1 AND agent_instance_id = $2 AND state <> 'offline' AND stream_epoch = $3
RETURNING {COLUMNS}
"""  # noqa: S608 - constant columns
ONE: Final = f"""
SELECT {COLUMNS} FROM orchestrator.agent_instances WHERE tenant_id = $1 AND agent_instance_id = $2
"""  # noqa: S608 - constant columns
OF_AGENT: Final = f"""
SELECT {COLUMNS} FROM orchestrator.agent_instances
 WHERE tenant_id = $1 AND agent = $2 AND state <> 'offline'
 ORDER BY weight DESC, agent_instance_id LIMIT 100
"""  # noqa: S608 - constant columns
AGENTS: Final = """
SELECT a.name, a.description, a.created_at, a.updated_at,
       (SELECT count(*) FROM orchestrator.agent_instances AS i
         WHERE i.tenant_id = a.tenant_id AND i.agent = a.name AND i.state = 'online'
           AND i.seen_at > clock_timestamp() - make_interval(secs => $2)) AS online
  FROM orchestrator.remote_agents AS a WHERE a.tenant_id = $1
"""
AGENT: Final = f"{AGENTS} AND a.name = $3"
AGENTS_AFTER: Final = (
    f"""{AGENTS} AND a.name COLLATE "C" > $3 ORDER BY a.name COLLATE "C" LIMIT $4"""
)

# One at a time chooses among the instances of an agent: turns and places are counted right.
CANDIDATES: Final = """
SELECT agent_instance_id, address, state, weight, turn, max_concurrent_tasks
  FROM orchestrator.agent_instances
 WHERE tenant_id = $1 AND agent = $2 AND state IN ('online', 'draining')
   AND seen_at > clock_timestamp() - make_interval(secs => $3)
 ORDER BY agent_instance_id
   FOR UPDATE
"""
ASSIGNED: Final = """
SELECT agent_instance_id FROM orchestrator.agent_assignments WHERE tenant_id = $1 AND task_id = $2
"""
# Tasks that wait, or whose end is written, have no place any more.
RUNNING: Final = """
SELECT a.agent_instance_id, count(*) AS tasks
  FROM orchestrator.agent_assignments AS a
  JOIN orchestrator.tasks AS t USING (tenant_id, task_id)
 WHERE a.tenant_id = $1 AND a.agent_instance_id = ANY ($2::uuid[]) AND NOT a.ended
   AND t.state = 'running' AND a.task_id <> $3
 GROUP BY a.agent_instance_id
"""
ASSIGN: Final = """
INSERT INTO orchestrator.agent_assignments (tenant_id, task_id, agent_instance_id)
VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, task_id) DO UPDATE
   SET agent_instance_id = excluded.agent_instance_id, remote_task_id = '', ended = false,
       assigned_at = clock_timestamp()
"""
TURNS: Final = """
UPDATE orchestrator.agent_instances AS i SET turn = new.turn
  FROM unnest($2::uuid[], $3::bigint[]) AS new (agent_instance_id, turn)
 WHERE i.tenant_id = $1 AND i.agent_instance_id = new.agent_instance_id
"""
IS_ALIVE: Final = """
SELECT EXISTS (SELECT FROM orchestrator.agent_instances
                WHERE tenant_id = $1 AND agent_instance_id = $2
                  AND state IN ('online', 'draining')
                  AND seen_at > clock_timestamp() - make_interval(secs => $3))
"""
NAMED: Final = """
UPDATE orchestrator.agent_assignments SET remote_task_id = $3
 WHERE tenant_id = $1 AND task_id = $2
"""
ENDED: Final = """
UPDATE orchestrator.agent_assignments SET ended = true WHERE tenant_id = $1 AND task_id = $2
"""
