//! The broker's procedures, each as it is made, and the calls of a credential's life.
//!
//! The procedures run with the rights of an account nobody can log in to. They check all they are given, because a stolen
//! broker's account can call them with anything: that must give it no more than leases the DBA has reviewed.

use super::scope::{Grants, Scope};
use super::sql::{Ident, Sql};
use crate::domain::{Digest, Time};

/// How handles look. With the length checked too, neither a newline nor a regular expression's flags matter.
const IS_HANDLE: &str = "LENGTH(handle) = 30 AND handle REGEXP '^jit_[0-9a-z]{26}$'";

const HANDLE: &str = "IN handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin";

const CREATE_PARAMETERS: &str = "\
IN handle VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    IN verifier VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    IN connections INT,
    IN statement_seconds INT,
    IN mint_until DATETIME(6)";

const CREATE_DECLARATIONS: &str = "\
BEGIN
    DECLARE account VARCHAR(80) DEFAULT CONCAT('''', handle, '''@''%''');
    DECLARE under_way VARCHAR(80) DEFAULT CONCAT('countersign ', handle);
    DECLARE made BOOLEAN DEFAULT FALSE;
    DECLARE code INT;
    DECLARE words TEXT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO, words = MESSAGE_TEXT;
        IF made THEN
            EXECUTE IMMEDIATE CONCAT('DROP USER ', account);
        END IF;
        DO RELEASE_LOCK(under_way);
        SELECT IF(NOT made AND code = 1396, 'exists', 'refused') AS outcome, code, words;
    END;
    IF (";

const CREATE_CHECKS: &str = "
        AND LENGTH(verifier) = 43 AND verifier REGEXP '^[0-9A-Za-z+/]{43}$'
        AND connections BETWEEN 1 AND 10 AND statement_seconds BETWEEN 1 AND 3600
        AND mint_until IS NOT NULL) IS NOT TRUE THEN
        SELECT 'bad_argument' AS outcome;
    ELSEIF (GET_LOCK(under_way, 0) = 1) IS NOT TRUE THEN
        SELECT 'exists' AS outcome;
    ELSEIF UTC_TIMESTAMP(6) > mint_until THEN
        DO RELEASE_LOCK(under_way);
        SELECT 'too_late' AS outcome;
    ELSE
        EXECUTE IMMEDIATE CONCAT('CREATE USER ', account, ' IDENTIFIED VIA ed25519 USING ''', verifier, '''";

const CREATE_LIMITS: &str = " WITH MAX_USER_CONNECTIONS ', connections, ' MAX_STATEMENT_TIME ', statement_seconds, ' ACCOUNT LOCK');
        SET made = TRUE;
";

const CREATE_END: &str = "        IF UTC_TIMESTAMP(6) > mint_until THEN
            EXECUTE IMMEDIATE CONCAT('DROP USER ', account);
            DO RELEASE_LOCK(under_way);
            SELECT 'too_late' AS outcome;
        ELSE
            EXECUTE IMMEDIATE CONCAT('ALTER USER ', account, ' ACCOUNT UNLOCK');
            DO RELEASE_LOCK(under_way);
            SELECT 'minted' AS outcome;
        END IF;
    END IF;
END";

const END_DECLARATIONS: &str = "\
BEGIN
    DECLARE account VARCHAR(80) DEFAULT CONCAT('''', handle, '''@''%''');
    DECLARE tries INT DEFAULT 0;
    DECLARE sessions INT DEFAULT 1;
    DECLARE code INT;
    DECLARE words TEXT;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION
    BEGIN
        IF code IS NULL THEN
            GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO, words = MESSAGE_TEXT;
        END IF;
    END;
    IF (";

const END_STEPS: &str = ") IS NOT TRUE THEN
        SET code = 1, words = 'not a handle of the broker';
    ELSE
        EXECUTE IMMEDIATE CONCAT('ALTER USER IF EXISTS ', account, ' ACCOUNT LOCK');
        WHILE sessions > 0 AND tries < 250 DO
            EXECUTE IMMEDIATE CONCAT('KILL USER ''', handle, '''');
            SELECT COUNT(*) INTO sessions FROM information_schema.processlist WHERE user = handle;
            IF sessions > 0 THEN
                DO SLEEP(0.02);
            END IF;
            SET tries = tries + 1;
        END WHILE;
        EXECUTE IMMEDIATE CONCAT('DROP USER IF EXISTS ', account);
        EXECUTE IMMEDIATE CONCAT('KILL USER ''', handle, '''');
    END IF;
    SELECT code, words;
END";

const LOOK: &str = "\
BEGIN
    DECLARE mints INT;
    SELECT COUNT(*) INTO mints FROM information_schema.processlist
        WHERE id = IS_USED_LOCK(CONCAT('countersign ', handle))
        AND BINARY user = BINARY SUBSTRING_INDEX(USER(), '@', 1);
    SELECT mints,
        (SELECT COUNT(*) FROM mysql.global_priv WHERE User = handle) AS accounts,
        (SELECT COUNT(*) FROM information_schema.processlist WHERE user = handle) AS sessions;
END";

const LIST: &str = "\
BEGIN
    SELECT User AS name FROM mysql.global_priv WHERE User REGEXP '^jit_[0-9a-z]{26}$'
    UNION SELECT user FROM information_schema.processlist WHERE user REGEXP '^jit_[0-9a-z]{26}$';
END";

const PREPARED_BEGIN: &str = "\
BEGIN
    SELECT routine_name AS routine, SHA2(routine_definition, 256) AS digest, definer,
        security_type AS security, sql_mode AS mode
        FROM information_schema.routines WHERE routine_schema = ";

const PREPARED_END: &str = ";
    SELECT Host AS anonymous FROM mysql.global_priv WHERE User = '';
    SELECT DISTINCT Db AS open_database FROM mysql.db WHERE User IN ('', 'PUBLIC');
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
}

impl Procedure {
    fn new(name: &str, parameters: &'static str, body: Sql) -> Result<Self, String> {
        let name = Ident::new(name)?;
        Ok(Self {
            name,
            parameters,
            body,
        })
    }

    /// What the server says of its body when nobody has changed it.
    pub fn digest(&self) -> String {
        hex::encode(Digest::of(self.body.as_str().as_bytes()).0)
    }
}

/// Makes accounts with exactly `grants`.
///
/// The account is made locked and unlocked last, so what stops half-way is of no use to anybody. A lock of its name shows
/// others that a mint is under way.
///
/// # Errors
/// Never: its name is plain.
pub fn create_procedure(grants: &Grants, encrypted: bool) -> Result<Procedure, String> {
    let mut body = Sql::new(CREATE_DECLARATIONS)
        .text(IS_HANDLE)
        .text(CREATE_CHECKS)
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
    })
}

/// The procedures every target has.
///
/// # Errors
/// Never: their names are plain.
pub fn common_procedures(database: &Ident) -> Result<[Procedure; 4], String> {
    // Every step of an end is tried whether or not the one before it worked; the look after it says what is left.
    let end = Sql::new(END_DECLARATIONS).text(IS_HANDLE).text(END_STEPS);
    let prepared = Sql::new(PREPARED_BEGIN)
        .literal(database.as_str())
        .text(PREPARED_END);
    Ok([
        Procedure::new("lease_end", HANDLE, end)?,
        // Whether a mint is under way is asked before what it may have made is looked for. Anybody can take a lock of
        // that name; only one held by the broker's own account counts.
        Procedure::new("lease_look", HANDLE, Sql::new(LOOK))?,
        Procedure::new("lease_list", "", Sql::new(LIST))?,
        Procedure::new("lease_prepared", "", prepared)?,
    ])
}

/// A time as MariaDB reads it.
pub fn timestamp(time: Time) -> String {
    time.to_string().replace('T', " ").replace('Z', "")
}

fn call(database: &Ident, procedure: &'static str) -> Sql {
    Sql::new("CALL ").ident(database).text(".").text(procedure)
}

/// Mints.
///
/// # Errors
/// Never: the procedure's name is plain.
pub fn mint(
    database: &Ident,
    handle: &str,
    verifier: &str,
    scope: &Scope,
    mint_until: &str,
) -> Result<Sql, String> {
    Ok(Sql::new("CALL ")
        .path(database, &scope.grants.procedure()?)
        .text("(")
        .literal(handle)
        .text(", ")
        .literal(verifier)
        .text(", ")
        .number(scope.max_connections)
        .text(", ")
        .number(scope.max_statement_seconds)
        .text(", ")
        .literal(mint_until)
        .text(")"))
}

/// Ends, and looks at what is left.
pub fn end(database: &Ident, handle: &str) -> Sql {
    call(database, "lease_end(")
        .literal(handle)
        .text("); ")
        .then(&look(database, handle))
}

/// Looks: mints under way, accounts, sessions.
pub fn look(database: &Ident, handle: &str) -> Sql {
    call(database, "lease_look(").literal(handle).text(")")
}

/// Accounts and sessions that could be ours.
pub fn list(database: &Ident) -> Sql {
    call(database, "lease_list()")
}

/// What the DBA has prepared.
pub fn prepared(database: &Ident) -> Sql {
    call(database, "lease_prepared()")
}
