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
use super::{MariadbIssuer, end_error, number, server, words};
use crate::config::DatabaseTls;
use crate::domain::{LeaseId, RequestId, lease};
use crate::issuers::{EndError, Ending, Issuer as _, MintOrder, Rehearsal};

const PROBE: Duration = Duration::from_secs(60);
/// What the procedures' account may do everywhere.
const GLOBAL: [&str; 3] = ["CREATE USER", "CONNECTION ADMIN", "PROCESS"];
/// The lines of `SHOW GRANTS`, either those of everybody or those of the account, up to the account, where nothing secret
/// stands yet.
fn grants(rows: &[MySqlRow], of_everybody: bool) -> Vec<String> {
    use sqlx::{Column as _, Row as _};
    let line = |row: &MySqlRow| {
        let column = row.columns().first()?.name().to_owned();
        let text = row.try_get::<String, _>(0).ok()?;
        let (grant, account) = text.split_once(" TO ")?;
        let shown =
            account.starts_with("PUBLIC") == of_everybody && column.starts_with("Grants for ");
        shown.then(|| grant.to_owned())
    };
    rows.iter().filter_map(line).collect()
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
        let rows = self.links.ask(For::Mints, &server::facts()).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(
                trouble @ Trouble::Barred {
                    code: 1044 | 1045 | 1049 | 1698 | 4150 | 4151,
                    ..
                },
            ) => {
                found.problems.push(self.barred(&trouble));
                return Ok(());
            }
            Err(trouble) => return Err(end_error("look_failed", &trouble)),
        };
        let version = words(&rows, "version").pop().unwrap_or_default();
        server::look_at_version(&version, found);
        if number(&rows, "read_only") != Some(0) {
            let text = "this server is read-only: point the target at the primary";
            found.problems.push(text.into());
        }
        self.look_at_passwords(&rows, found);
        server::look_at_limits(&rows, found);
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
        for grant in grants(&rows, true) {
            found.problems.push(format!(
                "every account has it, and leases would too ({grant}): REVOKE it FROM PUBLIC"
            ));
        }
        let mut expected = BTreeSet::from(["GRANT USAGE ON *.*".to_owned()]);
        for procedure in self.procedures(lists)? {
            if procedure.for_broker {
                expected.insert(self.execute_on(&procedure));
            }
        }
        for grant in grants(&rows, false) {
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
            Trouble::Barred { code: 4150, .. } => {
                "FLUSH PRIVILEGES, and SET GLOBAL max_password_errors = 4294967295".to_owned()
            }
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
        for grant in grants(rows, false) {
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
