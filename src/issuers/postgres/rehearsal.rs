//! Rehearsing: looks at how the DBA prepared the target, then makes, uses and ends a probe role for each scope.
//!
//! Every problem is a sentence and the statement that mends it.

use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::links::Trouble;
use super::scope::Scope;
use super::sql::{Ident, Sql};
use super::{PostgresIssuer, end_error};
use crate::config::DatabaseTls;
use crate::domain::{LeaseId, RequestId, Seconds, lease};
use crate::issuers::{EndError, Ending, Issuer as _, MintOrder, Rehearsal};

const PROBE_SECONDS: Seconds = Seconds(60);

/// One row of yes and no.
struct Facts(Option<PgRow>);

impl Facts {
    fn is(&self, column: &str) -> bool {
        let row = self.0.as_ref();
        row.and_then(|row| row.try_get::<Option<bool>, _>(column).ok().flatten()) == Some(true)
    }

    fn text(&self, column: &str) -> String {
        let row = self.0.as_ref();
        let text = row.and_then(|row| row.try_get::<Option<String>, _>(column).ok().flatten());
        text.unwrap_or_default()
    }
}

fn broker_facts() -> Sql {
    Sql::new(
        "SELECT pg_catalog.current_setting('server_version') AS version, rolsuper AS super, rolcreaterole AS createrole, \
         rolbypassrls OR rolreplication OR rolcreatedb AS excess, \
         pg_catalog.pg_has_role(SESSION_USER, 'pg_signal_backend', 'USAGE') AS signal, \
         pg_catalog.pg_is_in_recovery() AS replica, \
         pg_catalog.current_setting('max_prepared_transactions') <> '0' AS prepares, \
         EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE owner IS NULL) AS stray, \
         EXISTS (SELECT FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid() AND ssl) AS tls \
         FROM pg_catalog.pg_roles WHERE rolname = SESSION_USER",
    )
}

fn quarantine_facts(quarantine: &Ident) -> Sql {
    Sql::new(
        "SELECT true AS there, rolsuper OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
         OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid) AS powerful, \
         pg_catalog.pg_has_role(SESSION_USER, r.oid, 'USAGE') AS usable \
         FROM pg_catalog.pg_roles r WHERE rolname = ",
    )
    .literal(quarantine.as_str())
}

fn group_facts(group: &Ident) -> Sql {
    Sql::new(
        "SELECT true AS there, rolsuper AS super, rolcanlogin AS login, \
         pg_catalog.pg_has_role(SESSION_USER, r.oid, 'MEMBER WITH ADMIN OPTION') AS admin, \
         (SELECT pg_catalog.string_agg(p.rolname, ', ' ORDER BY p.rolname) FROM pg_catalog.pg_roles p WHERE (p.rolsuper \
           OR p.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files', \
           'pg_signal_backend', 'pg_create_subscription', SESSION_USER)) \
           AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER')) AS power \
         FROM pg_catalog.pg_roles r WHERE rolname = ",
    )
    .literal(group.as_str())
}

fn open_databases() -> Sql {
    Sql::new(
        "SELECT d.datname::pg_catalog.text AS name, pg_catalog.has_database_privilege(SESSION_USER, d.oid, 'CONNECT') AS reached, \
         EXISTS (SELECT FROM pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a \
           WHERE a.grantee = 0 AND a.privilege_type IN ('CONNECT', 'TEMPORARY')) AS open \
         FROM pg_catalog.pg_database d WHERE d.datallowconn ORDER BY 1",
    )
}

fn rows_facts() -> Sql {
    Sql::new(
        "SELECT true AS there, pg_catalog.has_schema_privilege(SESSION_USER, c.relnamespace, 'USAGE') \
         AND pg_catalog.has_table_privilege(SESSION_USER, c.oid, 'SELECT') \
         AND pg_catalog.has_table_privilege(SESSION_USER, c.oid, 'INSERT') \
         AND pg_catalog.has_table_privilege(SESSION_USER, c.oid, 'DELETE') AS usable, c.relrowsecurity AS guarded \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'countersign' AND c.relname = 'lease_scope'",
    )
}

/// Policies that read `key`; the text of a policy is all the catalog has of it.
fn policies(key: &str) -> Sql {
    Sql::new(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_policies WHERE qual LIKE '%lease_scope%' AND pg_catalog.strpos(qual, ",
    )
    .literal(key)
    .text(") > 0) AS there")
}

/// Tables the group may read where no policy holds rows back.
fn unguarded(group: &Ident) -> Sql {
    Sql::new(
        "SELECT pg_catalog.string_agg(t.name, ', ') AS tables FROM (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND NOT c.relrowsecurity \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND pg_catalog.has_any_column_privilege(",
    )
    .literal(group.as_str())
    .text(", c.oid, 'SELECT') ORDER BY 1 LIMIT 20) t")
}

/// Where the group may create and the quarantine role may not, so that what agents leave there cannot be handed over.
fn creations(group: &Ident, quarantine: &Ident) -> Sql {
    Sql::new(
        "SELECT pg_catalog.string_agg(place, ', ') AS places FROM (SELECT pg_catalog.format('SCHEMA %I', n.nspname) AS place \
         FROM pg_catalog.pg_namespace n WHERE pg_catalog.has_schema_privilege(",
    )
    .literal(group.as_str())
    .text(", n.oid, 'CREATE') AND NOT pg_catalog.has_schema_privilege(")
    .literal(quarantine.as_str())
    .text(
        ", n.oid, 'CREATE') UNION ALL SELECT pg_catalog.format('DATABASE %I', d.datname) FROM pg_catalog.pg_database d \
         WHERE pg_catalog.has_database_privilege(",
    )
    .literal(group.as_str())
    .text(", d.oid, 'CREATE') AND NOT pg_catalog.has_database_privilege(")
    .literal(quarantine.as_str())
    .text(", d.oid, 'CREATE')) p")
}

impl PostgresIssuer {
    async fn facts(&self, database: &str, sql: &Sql) -> Result<Facts, EndError> {
        let rows = self.links.ask_once(database, sql).await;
        let rows = rows.map_err(|trouble| end_error("look_failed", &trouble))?;
        Ok(Facts(rows.into_iter().next()))
    }

    pub(super) async fn rehearse_scopes(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        let mut found = Rehearsal::default();
        self.look_at_broker(&mut found).await?;
        self.look_at_databases(&mut found).await?;
        for value in scopes {
            let scope = match self.around.read(&self.around.filled(value)) {
                Ok(scope) => scope,
                Err(why) => {
                    found.problems.push(format!("scope {value}: {why}"));
                    continue;
                }
            };
            if self.around.names_open(value) {
                let text = format!(
                    "scope {value}: a role or the database is a parameter, so no probe was made for it"
                );
                found.warnings.push(text);
                continue;
            }
            if let Err(trouble) = self
                .links
                .ask_once(scope.database.as_str(), &Sql::new("SELECT 1"))
                .await
            {
                let database = &scope.database;
                let text = format!("database {database} cannot be used: {}", trouble.detail());
                found.problems.push(text);
                continue;
            }
            self.look_at_groups(&scope, &mut found).await?;
            self.look_at_rows(&scope, &mut found).await?;
            if found.problems.is_empty() {
                self.probe(&scope, &mut found).await;
            }
        }
        found.problems.dedup();
        found.warnings.dedup();
        Ok(found)
    }

    async fn look_at_broker(&self, found: &mut Rehearsal) -> Result<(), EndError> {
        let broker = Ident::new(&self.target.user).map_err(|why| EndError {
            code: "bad_target".into(),
            detail: why,
        })?;
        let facts = self.facts(&self.target.database, &broker_facts()).await?;
        self.look_at_version(&facts.text("version"), found);
        let problems = &mut found.problems;
        if facts.is("super") {
            problems.push(format!(
                "the broker is superuser: ALTER ROLE {broker} NOSUPERUSER"
            ));
        }
        if !facts.is("createrole") {
            problems.push(format!(
                "the broker cannot make roles: ALTER ROLE {broker} CREATEROLE"
            ));
        }
        if !facts.is("signal") {
            problems.push(format!(
                "the broker cannot end every session: GRANT pg_signal_backend TO {broker}"
            ));
        }
        if facts.is("replica") {
            problems.push("this server is a read replica: point the target at the primary".into());
        }
        if facts.is("stray") {
            problems.push("a prepared transaction has no owner any more: find it with SELECT gid, database FROM pg_prepared_xacts WHERE owner IS NULL and ROLLBACK PREPARED it in its database as superuser".into());
        }
        self.look_at_quarantine(&broker, found).await?;
        let warnings = &mut found.warnings;
        if facts.is("excess") {
            warnings.push(format!(
                "the broker has more than it needs: ALTER ROLE {broker} NOBYPASSRLS NOREPLICATION NOCREATEDB"
            ));
        }
        if facts.is("prepares") {
            warnings.push("prepared transactions are enabled: agents may leave some, which the end rolls back (max_prepared_transactions = 0 forbids them)".into());
        }
        if !facts.is("tls") && !matches!(self.target.tls, DatabaseTls::Disable) {
            warnings.push(
                "the server does not see TLS on our connection: something in between ends it"
                    .into(),
            );
        }
        if matches!(self.target.tls, DatabaseTls::Disable) {
            warnings.push(
                "connections to this target are in clear; that is accepted on this machine only"
                    .into(),
            );
        }
        Ok(())
    }

    fn look_at_version(&self, version: &str, found: &mut Rehearsal) {
        found.target = format!("PostgreSQL {version}");
        let major = version
            .split(['.', ' '])
            .next()
            .and_then(|text| text.parse::<u32>().ok());
        match major.unwrap_or(0) {
            ..15 => found.problems.push(format!("PostgreSQL {version} is too old: use 15 or newer")),
            15 if !self.target.accept_pg15_createrole => found.problems.push(
                "on PostgreSQL 15 CREATEROLE is close to superuser: upgrade, or set accept_pg15_createrole = true for this target".into(),
            ),
            19.. => found.warnings.push(format!("PostgreSQL {version} is newer than what was tested (15 to 18)")),
            _ => {}
        }
    }

    async fn look_at_quarantine(
        &self,
        broker: &Ident,
        found: &mut Rehearsal,
    ) -> Result<(), EndError> {
        let quarantine = &self.quarantine;
        let owner = self
            .facts(&self.target.database, &quarantine_facts(quarantine))
            .await?;
        if !owner.is("there") {
            found.problems.push(format!(
                "there is no quarantine role: CREATE ROLE {quarantine} NOLOGIN; GRANT {quarantine} TO {broker}"
            ));
        } else if owner.is("powerful") {
            found.problems.push(format!(
                "the quarantine role has power: ALTER ROLE {quarantine} NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS, and REVOKE each role it is a member of"
            ));
        } else if !owner.is("usable") {
            found.problems.push(format!(
                "the broker may not use the quarantine role: GRANT {quarantine} TO {broker}"
            ));
        }
        Ok(())
    }

    async fn look_at_databases(&self, found: &mut Rehearsal) -> Result<(), EndError> {
        let rows = self
            .links
            .ask_once(&self.target.database, &open_databases())
            .await;
        let rows = rows.map_err(|trouble| end_error("look_failed", &trouble))?;
        for facts in rows.into_iter().map(|row| Facts(Some(row))) {
            let Ok(database) = Ident::new(&facts.text("name")) else {
                continue;
            };
            if facts.is("open") {
                found.warnings.push(format!(
                    "every new role can reach database {database}: REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC"
                ));
            }
            if !facts.is("reached") {
                let broker = &self.target.user;
                found.warnings.push(format!(
                    "the broker cannot clean up in database {database}; if a group may connect there: GRANT CONNECT ON DATABASE {database} TO \"{broker}\""
                ));
            }
        }
        Ok(())
    }

    async fn look_at_groups(&self, scope: &Scope, found: &mut Rehearsal) -> Result<(), EndError> {
        let broker = Ident::new(&self.target.user).unwrap_or_else(|_| self.quarantine.clone());
        for group in &scope.roles {
            let facts = self
                .facts(scope.database.as_str(), &group_facts(group))
                .await?;
            let problems = &mut found.problems;
            if !facts.is("there") {
                problems.push(format!(
                    "there is no group role {group}: CREATE ROLE {group} NOLOGIN; GRANT {group} TO {broker} WITH ADMIN OPTION"
                ));
                continue;
            }
            if facts.is("super") {
                problems.push(format!(
                    "group role {group} is superuser: ALTER ROLE {group} NOSUPERUSER"
                ));
            }
            let power = facts.text("power");
            if !power.is_empty() {
                problems.push(format!(
                    "group role {group} reaches {power}: REVOKE {power} FROM {group}"
                ));
            }
            if !facts.is("admin") {
                problems.push(format!(
                    "the broker may not grant {group}: GRANT {group} TO {broker} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
                ));
            }
            let creations = creations(group, &self.quarantine);
            if let Ok(Some(row)) = self
                .links
                .ask_once(scope.database.as_str(), &creations)
                .await
                .map(|rows| rows.into_iter().next())
            {
                let places = Facts(Some(row)).text("places");
                if !places.is_empty() {
                    found.warnings.push(format!(
                        "{group} may create in {places}; functions left there are dropped, other things may block the end: GRANT CREATE ON each of them TO {}",
                        self.quarantine
                    ));
                }
            }
            if facts.is("login") {
                found.warnings.push(format!(
                    "group role {group} can log in itself: ALTER ROLE {group} NOLOGIN"
                ));
            }
        }
        Ok(())
    }

    async fn look_at_rows(&self, scope: &Scope, found: &mut Rehearsal) -> Result<(), EndError> {
        if scope.rows.is_empty() {
            return Ok(());
        }
        let database = scope.database.as_str();
        let facts = self.facts(database, &rows_facts()).await?;
        if !facts.is("there") {
            found.problems.push(format!(
                "database {database:?} has no table countersign.lease_scope, which `rows` needs: run the statements of docs/targets/postgresql.md, part \"Rows\""
            ));
            return Ok(());
        }
        if !facts.is("usable") {
            let broker = &self.target.user;
            found.problems.push(format!(
                "the broker may not write rows: GRANT USAGE ON SCHEMA countersign TO \"{broker}\"; GRANT SELECT, INSERT, DELETE ON countersign.lease_scope TO \"{broker}\""
            ));
        }
        if !facts.is("guarded") {
            found.problems.push("agents could read each other's rows: ALTER TABLE countersign.lease_scope ENABLE ROW LEVEL SECURITY, with the policies of docs/targets/postgresql.md, part \"Rows\"".into());
        }
        for key in scope.rows.keys() {
            if !self.facts(database, &policies(key)).await?.is("there") {
                found.problems.push(format!(
                    "no row level security policy in database {database:?} reads key {key}: CREATE POLICY lease_rows ON ... USING ({key}::text IN (SELECT value FROM countersign.lease_scope WHERE role_name = SESSION_USER AND key = '{key}'))"
                ));
            }
        }
        for group in &scope.roles {
            let tables = self
                .facts(database, &unguarded(group))
                .await?
                .text("tables");
            if !tables.is_empty() {
                found.warnings.push(format!(
                    "{group} reads these tables whole, whatever `rows` says: {tables}; ALTER TABLE ... ENABLE ROW LEVEL SECURITY where rows matter"
                ));
            }
        }
        Ok(())
    }

    /// Makes a role, logs in with it, ends it with the session open, and sees that it is gone.
    async fn probe(&self, scope: &Scope, found: &mut Rehearsal) {
        let now = self.clock.now();
        let id = LeaseId::draw(now, self.entropy.draw());
        let handle = lease::handle_of(&id);
        let value = scope.to_value();
        let order = MintOrder {
            lease: id,
            request: RequestId::draw(now, self.entropy.draw()),
            agent: "rehearsal".into(),
            sponsor: "rehearsal".into(),
            scope: value.clone(),
            server: match self.identify().await {
                Ok(server) => server,
                Err(why) => return found.problems.push(why.to_string()),
            },
            expires: now.plus(PROBE_SECONDS),
            mint_until: now.plus(PROBE_SECONDS),
            now,
        };
        let ending = Ending {
            scope: &value,
            server: Some(&order.server),
            ..Ending::unexplained(&handle)
        };
        let mut outcome = Ok(());
        let mut visit = None;
        match self.mint_role(&order).await {
            Ok(minted) => {
                let select = Sql::new("SELECT 1");
                match self
                    .links
                    .visit(&minted.database, &minted.user, &minted.password, &select)
                    .await
                {
                    Ok(session) => visit = Some(session),
                    Err(trouble) => outcome = Err(login_problem(&trouble, scope)),
                }
            }
            Err(why) => outcome = Err(format!("a probe role could not be made: {why}")),
        }
        if let Err(why) = self.end(&ending).await {
            outcome = outcome.and(Err(format!("the probe role could not be ended: {why}")));
        }
        if let Some(mut session) = visit
            && session.is_alive().await
        {
            outcome = outcome.and(Err(
                "the probe's session outlived its end: GRANT pg_signal_backend to the broker"
                    .into(),
            ));
        }
        if let Err(why) = self.prove(&ending).await {
            outcome = outcome.and(Err(format!("the probe role is not proven gone: {why}")));
        }
        if let Err(problem) = outcome {
            found.problems.push(problem);
        }
    }
}

fn login_problem(trouble: &Trouble, scope: &Scope) -> String {
    let (database, groups) = (&scope.database, &scope.roles);
    let groups: Vec<_> = groups.iter().map(Ident::to_string).collect();
    format!(
        "the probe role could not log in: {}; GRANT CONNECT ON DATABASE {database} TO {}, and let pg_hba.conf accept scram-sha-256",
        trouble.detail(),
        groups.join(", ")
    )
}
