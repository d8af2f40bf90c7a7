-- Counts the running turns of a tenant for one more. Those who count for the same tenant take turns
-- until their transactions end: none is missed, whichever process it runs in.
CREATE FUNCTION chat.running_turns(p_tenant_id uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('meshwright.chat.turns/' || p_tenant_id, 0));
    RETURN (SELECT count(*) FROM chat.turns t
             WHERE t.tenant_id = p_tenant_id AND t.state = 'running');
END
$function$;
REVOKE EXECUTE ON FUNCTION chat.running_turns(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.running_turns(uuid) TO meshwright_chat;
