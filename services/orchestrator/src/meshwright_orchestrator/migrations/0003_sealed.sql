-- Texts of users and models are sealed with the tenant's key (JSON inside), and the digest of a
-- request is keyed: a plain hash would tell whoever guesses what was asked.
-- Rows of before stand plain behind a byte of zero until they are sealed, right after this.
ALTER TABLE orchestrator.tasks
    ALTER COLUMN spec TYPE bytea USING '\x00'::bytea || convert_to(spec::text, 'UTF8'),
    ALTER COLUMN messages TYPE bytea USING '\x00'::bytea || convert_to(messages::text, 'UTF8'),
    ALTER COLUMN result TYPE bytea USING '\x00'::bytea || convert_to(result::text, 'UTF8'),
    ALTER COLUMN failure TYPE bytea USING '\x00'::bytea || convert_to(failure::text, 'UTF8'),
    ALTER COLUMN request_sha256 TYPE bytea USING sha256('');
ALTER TABLE orchestrator.tasks RENAME COLUMN request_sha256 TO request_digest;

ALTER TABLE orchestrator.steps
    ALTER COLUMN outcome TYPE bytea USING '\x00'::bytea || convert_to(outcome::text, 'UTF8');

SELECT encryption.declare_sealed('orchestrator.tasks', 'spec', 'task_id');
SELECT encryption.declare_sealed('orchestrator.tasks', 'messages', 'task_id');
SELECT encryption.declare_sealed('orchestrator.tasks', 'result', 'task_id');
SELECT encryption.declare_sealed('orchestrator.tasks', 'failure', 'task_id');
SELECT encryption.declare_sealed('orchestrator.steps', 'outcome', 'task_id', 'step');
