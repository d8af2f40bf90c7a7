-- Tasks whose step waits for a service of the platform itself that is away: since when, and which
-- steps were journaled then. When there is one more, the waiting is over.
ALTER TABLE orchestrator.tasks
    ADD COLUMN away_since timestamptz,
    ADD COLUMN away_step integer;
