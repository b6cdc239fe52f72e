//! Rehearsing: compares what the DBA prepared with what the catalog needs, then makes and ends a probe account for each
//! list of grants.
//!
//! Every problem is a sentence and what mends it. The probe is logged in with where the broker's driver speaks the plugin
//! that checks leases' passwords.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use sqlx::mysql::MySqlRow;

use super::links::{For, Trouble};
use super::procedures::{Procedure, TABLES};
use super::scope::{Grants, Scope, filled};
use super::sql::{MODE, Sql};
use super::text;
use super::verifier::Plugin;
use super::{MariadbIssuer, end_error, number, words};
use crate::config::DatabaseTls;
use crate::domain::{LeaseId, RequestId, lease};
use crate::issuers::{EndError, Ending, Issuer as _, MintOrder, Rehearsal};

const PROBE: Duration = Duration::from_secs(60);
/// What the procedures' account may do everywhere.
const GLOBAL: [&str; 3] = ["CREATE USER", "CONNECTION ADMIN", "PROCESS"];
/// The oldest MariaDB with all that the procedures use.
const OLDEST: (u32, u32) = (10, 5);
const NEWEST_TESTED: (u32, u32) = (10, 11);

/// Times a server gives sessions, in seconds, shorter than this are told: no lease's scope says them.
const SHORT_SECONDS: i64 = 3600;

fn server_facts() -> Sql {
    Sql::new(
        "SELECT VERSION() AS version, CONCAT(@@global.read_only) NOT IN ('0', 'OFF') AS read_only, \
         (SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = 'ed25519' AND plugin_status = 'ACTIVE') AS ed25519, \
         (SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_type = 'PASSWORD VALIDATION' AND plugin_status = 'ACTIVE') \
         * @@global.strict_password_validation AS judges_passwords, \
         CAST(@@global.performance_schema AS SIGNED) AS shows_threads, CAST(@@global.wait_timeout AS SIGNED) AS wait_timeout, \
         CAST(@@global.idle_transaction_timeout AS SIGNED) AS idle_transaction_timeout, \
         CAST(@@global.idle_readonly_transaction_timeout AS SIGNED) AS idle_readonly_transaction_timeout, \
         CAST(@@global.idle_write_transaction_timeout AS SIGNED) AS idle_write_transaction_timeout; \
         SELECT engine AS other_xa FROM information_schema.engines WHERE xa = 'YES' AND engine <> 'InnoDB'; \
         SHOW GRANTS; XA RECOVER FORMAT = 'SQL'",
    )
}

/// The lines of `SHOW GRANTS` up to the account, where nothing secret stands yet.
fn grants(rows: &[MySqlRow]) -> Vec<String> {
    use sqlx::{Column as _, Row as _};
    let line = |row: &MySqlRow| {
        let column = row.columns().first()?.name().to_owned();
        let text = row.try_get::<String, _>(0).ok()?;
        let grant = text.split(" TO ").next()?.to_owned();
        column.starts_with("Grants for ").then_some(grant)
    };
    rows.iter().filter_map(line).collect()
}

/// `10.11` of `10.11.19-MariaDB`.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

impl MariadbIssuer {
    pub(super) async fn rehearse_scopes(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        let mut found = Rehearsal::default();
        let mut read: Vec<Scope> = Vec::new();
        for value in scopes {
            match self.read(&filled(value)) {
                Ok(scope) => read.push(scope),
                Err(why) => found.problems.push(format!("scope {value}: {why}")),
            }
        }
        let lists = read.iter().map(|scope| scope.grants.clone()).collect();
        self.look_at_server(&lists, &mut found).await?;
        if found.target.is_empty() {
            return Ok(found);
        }
        self.look_at_preparation(&lists, &mut found).await?;
        for list in &lists {
            if found.problems.is_empty()
                && let Some(scope) = read.iter().find(|scope| &scope.grants == list)
            {
                self.probe(scope, &mut found).await;
            }
        }
        found.problems.dedup();
        found.warnings.dedup();
        Ok(found)
    }

    async fn look_at_server(
        &self,
        lists: &BTreeSet<Grants>,
        found: &mut Rehearsal,
    ) -> Result<(), EndError> {
        let rows = self.links.ask(For::Mints, &server_facts()).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(
                trouble @ Trouble::Barred {
                    code: 1044 | 1045 | 1049 | 1698 | 4151,
                    ..
                },
            ) => {
                found.problems.push(self.barred(&trouble));
                return Ok(());
            }
            Err(trouble) => return Err(end_error("look_failed", &trouble)),
        };
        let version = words(&rows, "version").pop().unwrap_or_default();
        look_at_version(&version, found);
        if number(&rows, "read_only") != Some(0) {
            let text = "this server is read-only: point the target at the primary";
            found.problems.push(text.into());
        }
        self.look_at_passwords(&rows, found);
        look_at_limits(&rows, found);
        let prepared = words(&rows, "data");
        if !prepared.is_empty() {
            found.warnings.push(format!(
                "XA transactions are prepared here; any account may commit or roll them back: {}",
                prepared.join("; ")
            ));
        }
        if matches!(self.target.tls, DatabaseTls::Disable) {
            let text =
                "connections to this target are in clear; that is accepted on this machine only";
            found.warnings.push(text.into());
        }
        let mut expected = BTreeSet::from(["GRANT USAGE ON *.*".to_owned()]);
        for procedure in self.procedures(lists)? {
            if procedure.for_broker {
                expected.insert(self.execute_on(&procedure));
            }
        }
        for grant in grants(&rows) {
            if expected.contains(&grant) {
                continue;
            }
            let broker = &self.names.broker;
            if let Some(procedure) = grant.strip_prefix(&self.execute_on_any()) {
                found.warnings.push(format!(
                    "the broker may call {procedure}, which the catalog does not need: REVOKE EXECUTE ON PROCEDURE {}.{procedure} FROM {broker}",
                    self.names.procedures
                ));
            } else {
                found.problems.push(format!(
                    "the broker's account has more than its procedures ({grant}): REVOKE it FROM {broker}"
                ));
            }
        }
        Ok(())
    }

    /// Whether leases' accounts can be made and logged in to.
    fn look_at_passwords(&self, rows: &[MySqlRow], found: &mut Rehearsal) {
        if self.names.plugin == Plugin::Ed25519 && number(rows, "ed25519") != Some(1) {
            let text = "the plugin that checks leases' passwords is missing: INSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519'";
            found.problems.push(text.into());
        }
        if number(rows, "judges_passwords") != Some(0) {
            let text = "password validation refuses accounts made with a verifier: SET GLOBAL strict_password_validation = OFF (passwords in clear are judged all the same)";
            found.problems.push(text.into());
        }
    }

    fn procedures(&self, lists: &BTreeSet<Grants>) -> Result<Vec<Procedure>, EndError> {
        self.names.procedures_for(lists).map_err(|why| EndError {
            code: "bad_target".into(),
            detail: why,
        })
    }

    fn execute_on_any(&self) -> String {
        format!("GRANT EXECUTE ON PROCEDURE {}.", self.names.procedures)
    }

    fn execute_on(&self, procedure: &Procedure) -> String {
        format!("{}{}", self.execute_on_any(), procedure.name)
    }

    /// Why the server does not let the broker in, with what mends it.
    fn barred(&self, trouble: &Trouble) -> String {
        let broker = &self.names.broker;
        let mend = match trouble {
            Trouble::Barred { code: 4151, .. } => format!("ALTER USER {broker} ACCOUNT UNLOCK"),
            Trouble::Barred { code: 1045, .. } => format!(
                "run what `countersign target init-sql {}` prints if there is no such account yet, then SET PASSWORD FOR {broker} and put the same into password_file; an account without a name catches such logins: DROP USER ''@'localhost'",
                self.name
            ),
            _ => format!(
                "run what `countersign target init-sql {}` prints",
                self.name
            ),
        };
        format!("the broker is not let in: {}; {mend}", trouble.detail())
    }

    /// Whether the procedures are the ones we would print, run by an account that can do no more than they need.
    async fn look_at_preparation(
        &self,
        lists: &BTreeSet<Grants>,
        found: &mut Rehearsal,
    ) -> Result<(), EndError> {
        let again = format!(
            "run what `countersign target init-sql {}` prints",
            self.name
        );
        let answer = self
            .links
            .ask(For::Mints, &text::prepared(&self.names.procedures))
            .await;
        let rows = match answer {
            Ok(rows) => rows,
            Err(trouble @ Trouble::Said { .. }) => {
                let detail = trouble.detail();
                found.problems.push(format!(
                    "the broker's procedures are not there: {detail}; {again}"
                ));
                return Ok(());
            }
            Err(trouble) => return Err(end_error("look_failed", &trouble)),
        };
        let procedures = self.procedures(lists)?;
        for procedure in &procedures {
            if let Some(what) = self.difference(procedure, &rows) {
                found
                    .problems
                    .push(format!("procedure {} {what}: {again}", procedure.name));
            }
        }
        for table in TABLES {
            let of =
                |row: &&MySqlRow| words(std::slice::from_ref(*row), "record_table") == [table.name];
            let row = rows.iter().find(of).map(std::slice::from_ref);
            if row.map(|row| words(row, "columns")) != Some(vec![table.columns.to_owned()]) {
                found.problems.push(format!(
                    "table {}.{} is missing, or not the one this version makes: {again}",
                    self.names.procedures, table.name
                ));
            }
        }
        if number(&rows, "replicas").is_some_and(|replicas| replicas > 0) {
            let text = "this server has replicas: a session that a lease opens at one of them lasts until its own end there; keep leases from reaching them";
            found.warnings.push(text.into());
        }
        self.look_at_definer(lists, &procedures, &rows, found);
        for host in words(&rows, "anonymous") {
            found.problems.push(format!(
                "an account without a name catches logins of leases: DROP USER ''@'{host}'"
            ));
        }
        for database in words(&rows, "open_database") {
            found.problems.push(format!(
                "every account can reach database {database}, and what a lease makes there outlives it: DELETE FROM mysql.db WHERE User IN ('', 'PUBLIC') and FLUSH PRIVILEGES"
            ));
        }
        Ok(())
    }

    /// How the procedure at the target differs from ours.
    fn difference(&self, procedure: &Procedure, rows: &[MySqlRow]) -> Option<&'static str> {
        let row = rows
            .iter()
            .find(|row| words(std::slice::from_ref(*row), "routine") == [procedure.name.as_str()]);
        let Some(row) = row.map(std::slice::from_ref) else {
            return Some("is missing");
        };
        let is = |column: &str, expected: &str| words(row, column) == [expected];
        let modes = |text: &str| text.split(',').map(String::from).collect::<BTreeSet<_>>();
        let mode = words(row, "mode").pop().unwrap_or_default();
        if !is("digest", &procedure.digest()) {
            Some("is not the one this version makes")
        } else if !is("definer", &self.names.definer.in_catalog()) || !is("security", "DEFINER") {
            Some("runs with the wrong account's rights")
        } else if modes(&mode) != modes(MODE) {
            Some("was made under another sql_mode")
        } else {
            None
        }
    }

    fn look_at_definer(
        &self,
        lists: &BTreeSet<Grants>,
        procedures: &[Procedure],
        rows: &[MySqlRow],
        found: &mut Rehearsal,
    ) {
        let definer = &self.names.definer;
        if !created(rows).contains(" ACCOUNT LOCK") {
            found.problems.push(format!(
                "the procedures' account can log in: ALTER USER {definer} ACCOUNT LOCK"
            ));
        }
        let mut places: BTreeSet<String> = procedures
            .iter()
            .map(|procedure| self.execute_on(procedure))
            .filter_map(|grant| grant.split_once(" ON ").map(|(_, place)| place.to_owned()))
            .collect();
        let servers = [
            "*.*",
            "`mysql`.`global_priv`",
            "`mysql`.`db`",
            "`performance_schema`.`threads`",
        ];
        places.extend(servers.map(String::from));
        places.extend(TABLES.map(|table| format!("{}.`{}`", self.names.procedures, table.name)));
        for grant in lists.iter().flat_map(Grants::iter) {
            let place = Sql::new("").path(&grant.database, &grant.table);
            places.insert(place.to_string());
        }
        let mut lacking = BTreeSet::from(GLOBAL);
        for grant in grants(rows) {
            let (what, place) = grant.split_once(" ON ").unwrap_or((grant.as_str(), ""));
            let mut excess = !places.contains(place);
            if place == "*.*" {
                for privilege in what.trim_start_matches("GRANT ").split(", ") {
                    excess |= !lacking.remove(privilege) && privilege != "USAGE";
                }
            }
            if excess {
                found.warnings.push(format!(
                    "the procedures' account has more than the catalog needs ({grant}): REVOKE it FROM {definer}"
                ));
            }
        }
        for privilege in lacking {
            found.problems.push(format!(
                "the procedures' account lacks a right: GRANT {privilege} ON *.* TO {definer}"
            ));
        }
    }

    /// Makes an account, ends it, and sees that it is gone.
    async fn probe(&self, scope: &Scope, found: &mut Rehearsal) {
        let now = self.clock.now();
        let id = LeaseId::draw(now, self.entropy.draw());
        let handle = lease::handle_of(&id);
        let order = MintOrder {
            lease: id,
            request: RequestId::draw(now, self.entropy.draw()),
            agent: "rehearsal".into(),
            sponsor: "rehearsal".into(),
            scope: scope.to_value(),
            server: match self.identify().await {
                Ok(server) => server,
                Err(why) => return found.problems.push(why.to_string()),
            },
            ordered: now,
            ttl: PROBE,
            mint_within: PROBE,
        };
        let ending = Ending {
            scope: &order.scope,
            server: Some(&order.server),
            ..Ending::unexplained(&handle)
        };
        let mut problems = Vec::new();
        match self.mint_account(&order).await {
            Err(why) => problems.push(format!("a probe account could not be made: {why}")),
            Ok(_) if self.prove(&ending).await.is_ok() => {
                problems.push("the probe account was made and cannot be seen".into());
            }
            Ok(probe) if self.names.plugin == Plugin::Native => {
                let login = self.links.log_in(&probe.user, &probe.password).await;
                problems.extend(login.err().map(|trouble| {
                    format!("the probe account cannot log in: {}", trouble.detail())
                }));
            }
            Ok(_) => {}
        }
        if let Err(why) = self.end(&ending).await {
            problems.push(format!("the probe account could not be ended: {why}"));
        } else if let Err(why) = self.prove(&ending).await {
            problems.push(format!("the probe account is not proven gone: {why}"));
        }
        found.problems.extend(problems);
    }
}

/// What cuts work short and stands in no scope, and what an end cannot see.
fn look_at_limits(rows: &[MySqlRow], found: &mut Rehearsal) {
    for limit in [
        "wait_timeout",
        "idle_transaction_timeout",
        "idle_readonly_transaction_timeout",
        "idle_write_transaction_timeout",
    ] {
        let seconds = number(rows, limit).filter(|seconds| (1..SHORT_SECONDS).contains(seconds));
        if let Some(seconds) = seconds {
            found.warnings.push(format!(
                "the server closes sessions of leases after {seconds} idle seconds ({limit}); no scope says so"
            ));
        }
    }
    if number(rows, "shows_threads") == Some(0) {
        let text = "performance_schema is off: while a trigger or a function runs with its maker's rights, MariaDB lists the session under that name, and an end finds it only afterwards; set performance_schema = ON";
        found.warnings.push(text.into());
    }
    for engine in words(rows, "other_xa") {
        found.warnings.push(format!(
            "engine {engine} takes part in XA transactions, and what a lease leaves prepared in it alone is not found"
        ));
    }
}

/// The answer to `SHOW CREATE USER`.
fn created(rows: &[MySqlRow]) -> String {
    use sqlx::{Column as _, Row as _};
    let line = |row: &MySqlRow| {
        let column = row.columns().first()?.name().to_owned();
        let text = row.try_get::<String, _>(0).ok()?;
        column.starts_with("CREATE USER for ").then_some(text)
    };
    rows.iter().find_map(line).unwrap_or_default()
}

fn look_at_version(version: &str, found: &mut Rehearsal) {
    found.target = format!("MariaDB {}", version.split('-').next().unwrap_or(version));
    if !version.contains("MariaDB") {
        found.target = format!("MySQL {version}");
        let text = "this is MySQL, whose procedures and accounts differ; use MariaDB (docs/targets/mariadb.md says what is missing)";
        found.problems.push(text.into());
    } else if numbers(version) < OLDEST {
        found.problems.push(format!(
            "MariaDB {version} is too old: use {}.{} or newer",
            OLDEST.0, OLDEST.1
        ));
    } else if numbers(version) != NEWEST_TESTED {
        found.warnings.push(format!(
            "MariaDB {version} was not tested; {}.{} was",
            NEWEST_TESTED.0, NEWEST_TESTED.1
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_version() {
        for (version, problems, warnings) in [
            ("10.11.19-MariaDB-0+deb12u1", 0, 0),
            ("11.4.2-MariaDB", 0, 1),
            ("10.4.1-MariaDB", 1, 0),
            ("8.4.0", 1, 0),
        ] {
            let mut found = Rehearsal::default();
            look_at_version(version, &mut found);
            assert_eq!(found.problems.len(), problems, "{version}");
            assert_eq!(found.warnings.len(), warnings, "{version}");
        }
    }
}
