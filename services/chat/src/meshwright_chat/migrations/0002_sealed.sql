-- What was asked and what came of it is sealed with the tenant's key (JSON inside), and the digest of
-- a request is keyed: a plain hash would tell whoever guesses the question.
ALTER TABLE chat.turns
    -- question, metadata
    ADD COLUMN request bytea,
    -- answer, citations, error_message; null while it runs.
    ADD COLUMN outcome bytea;

-- Rows of before stand plain behind a byte of zero until they are sealed, right after this.
UPDATE chat.turns SET
    request = '\x00'::bytea || convert_to(json_build_object(
        'question', question, 'metadata', metadata)::text, 'UTF8'),
    outcome = CASE WHEN state <> 'running' THEN '\x00'::bytea || convert_to(
        json_build_object('answer', answer, 'citations', citations,
            'error_message', error_message)::text, 'UTF8') END,
    request_sha256 = sha256('');

ALTER TABLE chat.turns
    ALTER COLUMN request SET NOT NULL,
    ADD CHECK (outcome IS NOT NULL OR state IN ('running', 'cancelled')),
    DROP COLUMN question,
    DROP COLUMN metadata,
    DROP COLUMN answer,
    DROP COLUMN citations,
    DROP COLUMN error_message;
ALTER TABLE chat.turns RENAME COLUMN request_sha256 TO request_digest;

SELECT encryption.declare_sealed('chat.turns', 'request', 'turn_id');
SELECT encryption.declare_sealed('chat.turns', 'outcome', 'turn_id');
