//! The broker's procedures and tables, each as it is made.
//!
//! The procedures run with the rights of an account nobody can log in to. They check all they are given, because a stolen
//! broker's account can call them with anything: that must give it no more than leases the DBA has reviewed.
//!
//! * Each asserts in the same message that it runs at the server it is meant for, and that this can be written to. A kill
//!   asserts what it can without waiting.
//! * An account is recorded before it is made and its record is closed after it is dropped, so whatever is stopped
//!   half-way leaves at most a record too many.
//! * What is recorded for another deployment is never touched.

use super::scope::Grants;
use super::sql::{Ident, Sql};
use super::verifier::Plugin;
use crate::domain::Digest;

/// The tables: this server's identity, and a record for each account.
pub const TABLES: [Table; 2] = [
    Table {
        name: "identity",
        columns: "id tinyint(4), uuid char(36)",
        definition: "(
    id TINYINT NOT NULL PRIMARY KEY,
    uuid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
) ENGINE = InnoDB",
    },
    Table {
        name: "leases",
        columns: "handle varchar(64), deployment char(16), request varchar(64), agent varchar(255), server varchar(200), \
                  minted_at datetime(6), ended_at datetime(6), transactions mediumtext, xids mediumtext",
        definition: "(
    handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    deployment CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    request VARCHAR(64) NOT NULL,
    agent VARCHAR(255) NOT NULL,
    server VARCHAR(200) NOT NULL,
    minted_at DATETIME(6) NOT NULL,
    ended_at DATETIME(6),
    transactions MEDIUMTEXT,
    xids MEDIUMTEXT,
    KEY ended (ended_at)
) ENGINE = InnoDB",
    },
];

/// A table beside the procedures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns with their types, as the server tells them.
    pub columns: &'static str,
    /// What stands behind `CREATE TABLE` and its name.
    pub definition: &'static str,
}

/// How handles look. With the length checked too, neither a newline nor a regular expression's flags matter.
const IS_HANDLE: &str = "LENGTH(handle) = 30 AND handle REGEXP '^jit_[0-9a-z]{26}$'";

/// Whose: the deployment that asks. Where: the server the handles were minted at, empty for orphans. Then up to 100
/// handles with commas between.
const SOME_HANDLES: &str = "\
IN deployment CHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    IN server VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
    IN handles VARCHAR(3200) CHARACTER SET ascii COLLATE ascii_bin";

const CREATE_PARAMETERS: &str = "\
IN handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    IN verifier VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    IN connections INT,
    IN statement_seconds INT,
    IN mint_until DATETIME(6),
    IN deployment CHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    IN server VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
    IN request VARCHAR(64) CHARACTER SET utf8mb4,
    IN agent TEXT CHARACTER SET utf8mb4";

/// Which server this is, and whether it can be written to. The text of `@@read_only` differs between versions.
const DECLARE_HERE: &str = "
    DECLARE here VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin DEFAULT
        (SELECT CONCAT('mariadb ', uuid, ' server ', @@global.server_id) FROM identity WHERE id = 1);
    DECLARE read_only BOOLEAN DEFAULT CONCAT(@@global.read_only) NOT IN ('0', 'OFF')
        OR CONCAT(@@global.innodb_read_only) NOT IN ('0', 'OFF');";

const CREATE_DECLARATIONS: &str = "
    DECLARE account VARCHAR(80) DEFAULT CONCAT('''', handle, '''@''%''');
    DECLARE under_way VARCHAR(80) DEFAULT CONCAT('countersign ', handle);
    DECLARE recorded BOOLEAN DEFAULT FALSE;
    DECLARE made BOOLEAN DEFAULT FALSE;
    DECLARE code INT;
    DECLARE words TEXT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO, words = MESSAGE_TEXT;
        IF made THEN
            EXECUTE IMMEDIATE CONCAT('DROP USER ', account);
        END IF;
        IF recorded THEN
            DELETE FROM leases WHERE leases.handle = handle;
        END IF;
        DO RELEASE_LOCK(under_way);
        SELECT IF(NOT made AND code IN (1062, 1396), 'exists', 'refused') AS outcome, code, words;
    END;
    IF (";

const CREATE_CHECKS: &str = "
        AND connections BETWEEN 1 AND 10 AND statement_seconds BETWEEN 1 AND 3600
        AND LENGTH(deployment) = 16 AND deployment REGEXP '^[0-9a-f]{16}$'
        AND mint_until IS NOT NULL) IS NOT TRUE THEN
        SELECT 'bad_argument' AS outcome;
    ELSEIF (here = server) IS NOT TRUE THEN
        SELECT 'elsewhere' AS outcome, here AS words;
    ELSEIF read_only THEN
        SELECT 'read_only' AS outcome;
    ELSEIF NOT EXISTS (SELECT 1 FROM performance_schema.threads WHERE processlist_id = CONNECTION_ID()) THEN
        SELECT 'unseen' AS outcome;
";

/// Engines that keep rows for later (`INSERT DELAYED`) in a session of nobody's, where no end can find them.
const CREATE_KEEPS_FOR_LATER: &str =
    " AND engine IN ('MyISAM', 'MEMORY', 'ARCHIVE', 'BLACKHOLE')) THEN
        SELECT 'delayed' AS outcome, ";

const CREATE_RECORD: &str = "    ELSEIF (GET_LOCK(under_way, 0) = 1) IS NOT TRUE THEN
        SELECT 'exists' AS outcome;
    ELSEIF UTC_TIMESTAMP(6) > mint_until THEN
        DO RELEASE_LOCK(under_way);
        SELECT 'too_late' AS outcome;
    ELSE
        INSERT INTO leases (handle, deployment, request, agent, server, minted_at)
            VALUES (handle, deployment, LEFT(request, 64), LEFT(agent, 255), server, UTC_TIMESTAMP(6));
        SET recorded = TRUE;
        EXECUTE IMMEDIATE CONCAT('CREATE USER ', account, ' IDENTIFIED VIA ";

const CREATE_VERIFIER: &str = " USING ''', verifier, '''";

const CREATE_LIMITS: &str = " WITH MAX_USER_CONNECTIONS ', connections, ' MAX_STATEMENT_TIME ', statement_seconds, ' ACCOUNT LOCK');
        SET made = TRUE;
";

const CREATE_END: &str = "        IF UTC_TIMESTAMP(6) > mint_until THEN
            EXECUTE IMMEDIATE CONCAT('DROP USER ', account);
            DELETE FROM leases WHERE leases.handle = handle;
            DO RELEASE_LOCK(under_way);
            SELECT 'too_late' AS outcome;
        ELSE
            EXECUTE IMMEDIATE CONCAT('ALTER USER ', account, ' ACCOUNT UNLOCK');
            DO RELEASE_LOCK(under_way);
            SELECT 'minted' AS outcome;
        END IF;
    END IF;
END";

/// While a trigger or a function runs with its maker's rights, the list of sessions shows its maker; while a session asks to
/// be somebody else, it shows whatever name was asked for; and `KILL USER` passes it by. The performance schema shows who
/// logged in.
const KILL_ALL_OF: &str = "\
BEGIN
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    EXECUTE IMMEDIATE CONCAT('KILL USER ''', handle, '''');
    FOR hidden IN (SELECT processlist_id AS id FROM performance_schema.threads WHERE processlist_user = handle) DO
        EXECUTE IMMEDIATE CONCAT('KILL ', hidden.id);
    END FOR;
END";

/// Reads the broker's tables without waiting, and kills when they cannot be read: a table that is locked, altered or gone
/// delays no kill. The ledger knows the names, and nobody else's account has such a name.
const KILL: &str = "\
BEGIN
    DECLARE here VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin;
    DECLARE owner CHAR(16) CHARACTER SET ascii COLLATE ascii_bin;
    DECLARE place INT DEFAULT 1;
    DECLARE handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    SET mine = '';
    SET STATEMENT lock_wait_timeout = 0 FOR
        SELECT CONCAT('mariadb ', uuid, ' server ', @@global.server_id) INTO here FROM identity WHERE id = 1;
    IF (server = '' OR COALESCE(here, server) = server) IS NOT TRUE THEN
        SELECT 'elsewhere' AS outcome, here AS words;
    ELSE
        WHILE place < LENGTH(handles) DO
            SET handle = SUBSTRING(handles, place, 30);
            SET place = place + 31;
            SET owner = NULL;
            SET STATEMENT lock_wait_timeout = 0 FOR
                SELECT leases.deployment INTO owner FROM leases WHERE leases.handle = handle;
            IF LENGTH(handle) = 30 AND handle REGEXP '^jit_[0-9a-z]{26}$'
                AND (owner = deployment OR owner IS NULL AND server <> '') THEN
                CALL lease_kill_all_of(handle);
                SET mine = CONCAT(mine, handle, ',');
            END IF;
        END WHILE;
    END IF;
END";

/// Statements on accounts wait for a backup's lock without end, and the session's `max_statement_time` stops one of them
/// only: nothing else is changed in a message in which one had to wait.
const END: &str = "\
BEGIN
    DECLARE mine VARCHAR(3200) CHARACTER SET ascii COLLATE ascii_bin;
    DECLARE place INT DEFAULT 1;
    DECLARE tries INT DEFAULT 0;
    DECLARE open BOOLEAN DEFAULT TRUE;
    DECLARE handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin;
    DECLARE waited BOOLEAN DEFAULT FALSE;
    DECLARE code, this_code INT;
    DECLARE words, these_words TEXT;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION
    BEGIN
        GET DIAGNOSTICS CONDITION 1 this_code = MYSQL_ERRNO, these_words = MESSAGE_TEXT;
        SET waited = waited OR this_code IN (1205, 1969);
        IF code IS NULL THEN
            SET code = this_code, words = these_words;
        END IF;
    END;
    CALL lease_kill(deployment, server, handles, mine);
    WHILE place < LENGTH(mine) AND NOT waited DO
        SET handle = SUBSTRING(mine, place, 30);
        EXECUTE IMMEDIATE CONCAT('ALTER USER IF EXISTS ''', handle, '''@''%'' ACCOUNT LOCK');
        CALL lease_kill_all_of(handle);
        SET place = place + 31;
    END WHILE;
    WHILE open AND tries < 200 DO
        SET open = FALSE;
        FOR session IN (SELECT DISTINCT user AS name FROM information_schema.processlist WHERE FIND_IN_SET(BINARY user, mine)
            UNION SELECT processlist_user FROM performance_schema.threads WHERE FIND_IN_SET(BINARY processlist_user, mine)) DO
            SET open = TRUE;
            CALL lease_kill_all_of(session.name);
        END FOR;
        IF open THEN
            DO SLEEP(0.01);
        END IF;
        SET tries = tries + 1;
    END WHILE;
    SET place = 1;
    WHILE place < LENGTH(mine) AND NOT waited DO
        SET handle = SUBSTRING(mine, place, 30);
        EXECUTE IMMEDIATE CONCAT('DROP USER IF EXISTS ''', handle, '''@''%''');
        CALL lease_kill_all_of(handle);
        UPDATE leases SET ended_at = UTC_TIMESTAMP(6) WHERE leases.handle = handle AND ended_at IS NULL;
        SET place = place + 31;
    END WHILE;
    SELECT code, words;
    CALL lease_look(deployment, server, handles);
END";

/// Whether a mint is under way is asked before what it may have made is looked for. Anybody can take a lock of that name;
/// only one held by who logged in as the broker counts. A session that the performance schema does not show could be anybody's.
const LOOK: &str = "
    DECLARE place INT DEFAULT 1;
    DECLARE handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin;
    DECLARE holder BIGINT;
    IF (server = '' OR here = server) IS NOT TRUE THEN
        SELECT 'elsewhere' AS outcome, here AS words;
    ELSEIF read_only THEN
        SELECT 'read_only' AS outcome;
    ELSE
        WHILE place < LENGTH(handles) DO
            SET handle = SUBSTRING(handles, place, 30);
            SET holder = IS_USED_LOCK(CONCAT('countersign ', handle));
            IF holder IS NOT NULL THEN
                SELECT handle AS minting FROM performance_schema.threads WHERE processlist_id = holder
                    AND BINARY processlist_user = BINARY SUBSTRING_INDEX(USER(), '@', 1);
            END IF;
            SET place = place + 31;
        END WHILE;
        SELECT User AS account FROM mysql.global_priv WHERE FIND_IN_SET(BINARY User, handles);
        SELECT leases.handle AS record, leases.deployment AS whose, ended_at IS NULL AS running FROM leases
            WHERE FIND_IN_SET(leases.handle, handles);
        SELECT user AS session FROM information_schema.processlist WHERE FIND_IN_SET(BINARY user, handles)
            UNION SELECT processlist_user FROM performance_schema.threads WHERE FIND_IN_SET(BINARY processlist_user, handles);
        SELECT COUNT(*) AS unseen FROM information_schema.processlist
            LEFT JOIN performance_schema.threads ON processlist_id = id WHERE thread_id IS NULL;
        SELECT 'looked' AS outcome;
    END IF;
END";

/// The server keeps what it tells of transactions for as long as it is asked more often than every tenth of a second, so
/// only one asks at a time, and waits first. Whose turn it is is a row that nothing else reads.
const NOTE: &str = "\
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;
    START TRANSACTION;
    DO (SELECT id FROM identity WHERE id = 2 FOR UPDATE);
    DO SLEEP(0.15);
    UPDATE leases SET transactions = (SELECT GROUP_CONCAT(trx_id) FROM information_schema.innodb_trx), xids = names
        WHERE leases.handle = handle AND leases.deployment = deployment AND transactions IS NULL;
    COMMIT;
    SELECT 'noted' AS outcome;
END";

const TRANSACTIONS: &str = "\
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;
    START TRANSACTION;
    DO (SELECT id FROM identity WHERE id = 2 FOR UPDATE);
    DO SLEEP(0.15);
    SELECT COUNT(*) AS unheld FROM information_schema.innodb_trx
        WHERE trx_mysql_thread_id NOT IN (SELECT id FROM information_schema.processlist);
    SELECT leases.handle AS suspect, leases.xids,
        (SELECT COUNT(*) FROM information_schema.innodb_trx
            WHERE trx_mysql_thread_id NOT IN (SELECT id FROM information_schema.processlist)
            AND NOT FIND_IN_SET(trx_id, COALESCE(leases.transactions, ''))) AS prepared
        FROM leases WHERE FIND_IN_SET(leases.handle, handles);
    COMMIT;
    SELECT 'looked' AS outcome;
END";

const LIST: &str = "
    IF read_only THEN
        SELECT 'read_only' AS outcome;
    ELSE
        BEGIN
            DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
            DELETE FROM leases WHERE ended_at < UTC_TIMESTAMP(6) - INTERVAL 7 DAY LIMIT 1000;
        END;
        SELECT found.name, leases.deployment AS whose FROM (
            SELECT User AS name FROM mysql.global_priv WHERE User REGEXP '^jit_[0-9a-z]{26}$'
            UNION SELECT user FROM information_schema.processlist WHERE user REGEXP '^jit_[0-9a-z]{26}$'
            UNION SELECT handle FROM leases WHERE ended_at IS NULL
        ) AS found LEFT JOIN leases ON leases.handle = found.name;
    END IF;
END";

const SERVER: &str = "
    SELECT here, read_only,
        (SELECT COUNT(*) FROM information_schema.processlist WHERE command IN ('Slave_IO', 'Slave_SQL')) AS replica;
END";

const PREPARED_BEGIN: &str = "\
BEGIN
    SELECT routine_name AS routine, SHA2(routine_definition, 256) AS digest, definer,
        security_type AS security, sql_mode AS mode
        FROM information_schema.routines WHERE routine_schema = ";

const PREPARED_TABLES: &str = ";
    SELECT table_name AS record_table,
        GROUP_CONCAT(column_name, ' ', column_type ORDER BY ordinal_position SEPARATOR ', ') AS columns
        FROM information_schema.columns WHERE table_schema = ";

const PREPARED_END: &str = " GROUP BY table_name;
    SELECT Host AS anonymous FROM mysql.global_priv WHERE User = '';
    SELECT DISTINCT Db AS open_database FROM mysql.db WHERE User IN ('', 'PUBLIC');
    SELECT COUNT(*) AS replicas FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%';
    SHOW CREATE USER CURRENT_USER;
    SHOW GRANTS FOR CURRENT_USER;
END";

/// A procedure of the broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Procedure {
    /// Its name.
    pub name: Ident,
    /// What it takes.
    pub parameters: &'static str,
    /// From `BEGIN` to `END`.
    pub body: Sql,
    /// Whether the broker calls it; others are called by procedures only.
    pub for_broker: bool,
}

impl Procedure {
    fn new(name: &str, parameters: &'static str, body: Sql) -> Result<Self, String> {
        let name = Ident::new(name)?;
        Ok(Self {
            name,
            parameters,
            body,
            for_broker: true,
        })
    }

    fn inner(self) -> Self {
        Self {
            for_broker: false,
            ..self
        }
    }

    /// What the server says of its body when nobody has changed it.
    pub fn digest(&self) -> String {
        hex::encode(Digest::of(self.body.as_str().as_bytes()).0)
    }
}

/// Begins a body that knows which server it runs at.
fn here() -> Sql {
    Sql::new("BEGIN").text(DECLARE_HERE)
}

/// Makes accounts with exactly `grants`.
///
/// The account is recorded first, made locked, and unlocked last, so what stops half-way is of no use to anybody. A lock of
/// its name shows others that a mint is under way.
///
/// # Errors
/// Never: its name is plain.
pub fn create_procedure(
    grants: &Grants,
    plugin: Plugin,
    encrypted: bool,
) -> Result<Procedure, String> {
    let mut body = here()
        .text(CREATE_DECLARATIONS)
        .text(IS_HANDLE)
        .text(plugin.is_verifier())
        .text(CREATE_CHECKS);
    for grant in grants.iter().filter(|grant| grant.inserts()) {
        let table = format!("{}.{}", grant.database.as_str(), grant.table.as_str());
        body = body
            .text("    ELSEIF @@global.max_delayed_threads > 0 AND EXISTS (SELECT 1 FROM information_schema.tables\n        WHERE table_schema = ")
            .literal(grant.database.as_str())
            .text(" AND table_name = ")
            .literal(grant.table.as_str())
            .text(CREATE_KEEPS_FOR_LATER)
            .literal(&table)
            .text(" AS words;\n");
    }
    body = body
        .text(CREATE_RECORD)
        .text(plugin.name())
        .text(CREATE_VERIFIER)
        .text(if encrypted { " REQUIRE SSL" } else { "" })
        .text(CREATE_LIMITS);
    for grant in grants.iter() {
        let statement = grant.statement().text(" TO ");
        body = body
            .text("        EXECUTE IMMEDIATE CONCAT(")
            .literal(statement.as_str())
            .text(", account);\n");
    }
    Ok(Procedure {
        name: grants.procedure()?,
        parameters: CREATE_PARAMETERS,
        body: body.text(CREATE_END),
        for_broker: true,
    })
}

/// The procedures every target has.
///
/// # Errors
/// Never: their names are plain.
pub fn common_procedures(database: &Ident) -> Result<[Procedure; 9], String> {
    const HANDLE: &str = "IN handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin";
    const KILL_PARAMETERS: &str = "\
IN deployment CHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    IN server VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
    IN handles VARCHAR(3200) CHARACTER SET ascii COLLATE ascii_bin,
    OUT mine VARCHAR(3200) CHARACTER SET ascii COLLATE ascii_bin";
    const NOTE_PARAMETERS: &str = "\
IN deployment CHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    IN handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    IN names MEDIUMTEXT CHARACTER SET utf8mb4";
    let prepared = Sql::new(PREPARED_BEGIN)
        .literal(database.as_str())
        .text(PREPARED_TABLES)
        .literal(database.as_str())
        .text(PREPARED_END);
    Ok([
        Procedure::new("lease_kill_all_of", HANDLE, Sql::new(KILL_ALL_OF))?.inner(),
        // Never waits for anything: what an end needs most has a message of its own.
        Procedure::new("lease_kill", KILL_PARAMETERS, Sql::new(KILL))?,
        // Every step is tried whether or not the one before it worked; the look behind them says what is left.
        Procedure::new("lease_end", SOME_HANDLES, Sql::new(END))?,
        Procedure::new("lease_look", SOME_HANDLES, here().text(LOOK))?,
        Procedure::new("lease_note", NOTE_PARAMETERS, Sql::new(NOTE))?,
        Procedure::new("lease_transactions", SOME_HANDLES, Sql::new(TRANSACTIONS))?,
        Procedure::new("lease_list", "", here().text(LIST))?,
        Procedure::new("lease_server", "", here().text(SERVER))?,
        Procedure::new("lease_prepared", "", prepared)?,
    ])
}
