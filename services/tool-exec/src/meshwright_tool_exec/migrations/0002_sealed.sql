-- What a tool answered is sealed with the tenant's key (JSON inside), and the digest of its arguments
-- is keyed: a plain hash would tell whoever guesses them.
ALTER TABLE tool_exec.calls
    -- result_json, citations_json
    ADD COLUMN outcome bytea;

-- Rows of before stand plain behind a byte of zero until they are sealed, right after this.
UPDATE tool_exec.calls SET
    outcome = CASE WHEN state = 'done' THEN '\x00'::bytea || convert_to(json_build_object(
        'result_json', result_json, 'citations_json', citations_json)::text, 'UTF8') END,
    arguments_sha256 = sha256('');

ALTER TABLE tool_exec.calls
    DROP COLUMN result_json,
    DROP COLUMN citations_json,
    ADD CHECK ((state = 'done') = (outcome IS NOT NULL));
ALTER TABLE tool_exec.calls RENAME COLUMN arguments_sha256 TO arguments_digest;

SELECT encryption.declare_sealed('tool_exec.calls', 'outcome', 'task_id', 'step', 'call_index');
