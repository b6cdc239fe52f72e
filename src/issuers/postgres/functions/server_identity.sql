-- Only a server that can be written to says what it is. The timeline is the one it writes now, not that of its last checkpoint.
BEGIN
    IF pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN
        RAISE EXCEPTION USING ERRCODE = 'CS000', MESSAGE = 'read_only_target',
            DETAIL = 'this server cannot be written to: point the target at the primary';
    END IF;
    RETURN format('postgresql %s timeline %s', (SELECT system_identifier FROM pg_control_system()),
        ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer);
END
