DECLARE
    modern constant boolean := current_setting('server_version_num')::integer >= 160000;
    granter constant text := left(current_user, -length('keeper')) || 'granter';
    routine constant text := '^(?:SECURITY DEFINER )?routine (.*) \([0-9a-f]{32}\)$';
    present constant text[] := ARRAY(SELECT scope_fingerprint(as_role));
    left_there text[];
    signature text;
    line text;
BEGIN
    -- What is about power comes first.
    left_there := ARRAY(SELECT c.word || l FROM (
            SELECT 'new: ' AS word, l FROM unnest(present) l WHERE l <> ALL (before)
            UNION ALL SELECT 'gone: ', l FROM unnest(before) l WHERE l <> ALL (present)) c
        ORDER BY c.l ~ '^(table|view|materialized view|sequence|index|type|constraint|default|definition|schema) ' AND c.l !~ '^default privilege', c.l, c.word);
    IF modern THEN
        PERFORM as_minter(lease, format('GRANT %I TO CURRENT_USER WITH INHERIT TRUE, SET FALSE GRANTED BY %I', as_role, granter));
    END IF;
    FOREACH line IN ARRAY present LOOP
        CONTINUE WHEN line = ANY (before) OR NOT starts_with(line, 'SECURITY DEFINER routine ');
        signature := substring(line FROM routine);
        BEGIN
            IF signature = ANY (ARRAY(SELECT substring(b FROM routine) FROM unnest(before) b)) THEN
                RAISE dependent_objects_still_exist;
            END IF;
            PERFORM as_minter(lease, format('DROP ROUTINE %s', signature));
            left_there := left_there || format('dropped SECURITY DEFINER routine %s', signature);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            PERFORM as_minter(lease, format('ALTER ROUTINE %s SECURITY INVOKER', signature));
            left_there := left_there || format('made SECURITY INVOKER: routine %s', signature);
        END;
    END LOOP;
    IF modern THEN
        PERFORM as_minter(lease, format('REVOKE %I FROM CURRENT_USER GRANTED BY %I', as_role, granter));
    END IF;
    RETURN left_there;
END
