//! MariaDB: an account per lease, made, ended and looked for by procedures the DBA has reviewed.
//!
//! * The broker's account may call these procedures and do nothing else; in MariaDB an account that may make others
//!   could take over root.
//! * There is one procedure for each list of grants in the catalog, so what a lease can do is fixed at the target.
//! * The server has no expiry to the second: the broker's timer ends a lease.
//!
//! | file | what it is |
//! |---|---|
//! | `sql` | how names and text are quoted |
//! | `scope` | what a credential may do |
//! | `verifier` | what the server stores of a password |
//! | `procedures` | the procedures and tables at the server |
//! | `text` | the calls of a credential's life |
//! | `minting`, `ending` | what is asked, and what the answers mean |
//! | `links` | connections, deadlines, what an error means |
//! | `server` | what a server says of itself, and what a DBA has to change |
//! | `rehearsal` | whether a target is fit for use, in words a DBA can act on |
//! | `preparation` | what the DBA runs |

mod ending;
mod links;
mod minting;
mod preparation;
mod procedures;
mod rehearsal;
mod scope;
mod server;
mod sql;
mod text;
mod verifier;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

pub use preparation::preparation_sql;

use self::links::{For, Links, Trouble};
use self::preparation::Names;
use self::scope::{Scope, filled};
use self::sql::{Ident, Sql};
use self::text::Place;
use super::{
    Credential, Deployment, EndError, Ending, Found, Issuer, MintError, MintOrder, Proof,
    Rehearsal, Whose, is_loopback,
};
use crate::config::{DatabaseTls, MariadbTarget};
use crate::domain::{Explanation, Seconds, ServerId, TargetName, lease};
use crate::system::{Clock, Entropy};

/// Why nothing is minted, and no end proven, at a server that does not show who logged in.
const PERFORMANCE_SCHEMA_OFF: &str = "performance_schema is off, or too small for the server's sessions: a session can then hide from its end (by asking to be another user, or in a trigger); set performance_schema = ON in the server's configuration and restart it, which also ends every session";

/// Mints and ends accounts at one MariaDB server.
pub struct MariadbIssuer {
    name: TargetName,
    target: MariadbTarget,
    names: Names,
    root_pem: Option<String>,
    links: Links,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    deployment: Deployment,
}

impl fmt::Debug for MariadbIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MariadbIssuer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl MariadbIssuer {
    /// An issuer for `target`. Connects nowhere yet.
    ///
    /// `root_pem` is the text of the target's `root_file`, when it names one.
    ///
    /// # Errors
    /// What in the target's configuration cannot stand, and what to write instead.
    pub fn new(
        name: &TargetName,
        target: &MariadbTarget,
        password: SecretString,
        root_pem: Option<String>,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
        deployment: Deployment,
    ) -> Result<Self, String> {
        let wrong = |why: String| format!("target {name}: {why}");
        if matches!(target.tls, DatabaseTls::Disable) && !is_loopback(&target.host) {
            return Err(wrong(format!(
                "tls mode `disable` is for loopback addresses only, not {}; use verify_full",
                target.host
            )));
        }
        if target.host.starts_with('/') {
            return Err(wrong(
                "a Unix socket cannot be used; name 127.0.0.1 or a host".into(),
            ));
        }
        let has_certificate = |pem: &String| pem.contains("-----BEGIN CERTIFICATE-----");
        if matches!(target.tls, DatabaseTls::VerifyFullWith { .. })
            && !root_pem.as_ref().is_some_and(has_certificate)
        {
            return Err(wrong(
                "root_file holds no PEM certificate; put the authority's certificate in it".into(),
            ));
        }
        if target.max_connections < 3 || target.longest_ttl_seconds == 0 {
            return Err(wrong(
                "max_connections must be at least 3 (two of them are for ends) and longest_ttl_seconds at least 1".into(),
            ));
        }
        Ident::new(&target.database).map_err(wrong)?;
        Ok(Self {
            name: name.clone(),
            target: target.clone(),
            names: Names::of(target).map_err(wrong)?,
            links: Links::new(target, &password, root_pem.as_deref()),
            root_pem,
            entropy,
            clock,
            deployment,
        })
    }

    fn read(&self, scope: &Value) -> Result<Scope, String> {
        Scope::read(scope, &self.names.procedures)
    }

    /// Where the broker's calls go.
    fn place<'a>(&'a self, server: Option<&'a ServerId>) -> Place<'a> {
        Place {
            database: &self.names.procedures,
            deployment: self.deployment.as_str(),
            server,
        }
    }
}

fn number(rows: &[MySqlRow], column: &str) -> Option<i64> {
    let number = |row: &MySqlRow| row.try_get::<Option<i64>, _>(column).ok().flatten();
    rows.iter().rev().find_map(number)
}

fn words(rows: &[MySqlRow], column: &str) -> Vec<String> {
    let word = |row: &MySqlRow| row.try_get::<Option<String>, _>(column).ok().flatten();
    rows.iter().filter_map(word).collect()
}

fn end_problem(code: &str, detail: impl Into<String>) -> EndError {
    EndError {
        code: code.into(),
        detail: detail.into(),
    }
}

fn end_error(code: &str, trouble: &Trouble) -> EndError {
    match trouble {
        Trouble::Said { .. } => end_problem(code, trouble.detail()),
        _ => end_problem("target_unavailable", trouble.detail()),
    }
}

/// Checks a scope, rendered or with placeholders, at a target whose procedures are in this database. Pure.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(super) fn check_scope(procedures: &str, scope: &Value) -> Result<(), String> {
    Scope::read(&filled(scope), &Ident::new(procedures)?).map(drop)
}

#[async_trait]
impl Issuer for MariadbIssuer {
    fn check_scope(&self, scope: &Value) -> Result<(), String> {
        self.read(&filled(scope)).map(|_| ())
    }

    fn longest_ttl(&self) -> Seconds {
        Seconds(self.target.longest_ttl_seconds)
    }

    fn explain(&self, scope: &Value, ttl: Seconds) -> Explanation {
        match self.read(&filled(scope)) {
            Ok(scope) => explain(&self.names, &scope, ttl),
            Err(why) => Explanation {
                words: vec![format!("nothing: {why}")],
                exact: String::new(),
                ending: Vec::new(),
                outlives: Vec::new(),
            },
        }
    }

    async fn rehearse(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        self.rehearse_scopes(scopes).await
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        let asked = text::server(&self.names.procedures);
        let rows = self.links.ask(For::Mints, &asked).await;
        let rows = rows.map_err(|trouble| identify_error(&trouble))?;
        if number(&rows, "read_only") != Some(0) || number(&rows, "replica") != Some(0) {
            return Err(ending::read_only());
        }
        let here = words(&rows, "here").pop().unwrap_or_default();
        here.parse().map_err(|_| {
            let detail =
                "the server has no identity; run what `countersign target init-sql` prints";
            end_problem("not_prepared", detail)
        })
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        self.mint_account(order).await.map(Credential::Mariadb)
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        self.end_and_prove(ending).await.map(drop)
    }

    /// The broker never knew the password for longer than the mint, so it cannot try a login: that the account is absent
    /// is the proof that login is refused.
    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        self.look(ending).await
    }

    async fn end_and_prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        let mut proofs = self.end_batch(std::slice::from_ref(ending)).await;
        proofs
            .pop()
            .unwrap_or_else(|| Err(end_problem("end_failed", "there is no answer")))
    }

    async fn end_all(&self, endings: &[Ending<'_>]) -> Vec<Result<Proof, EndError>> {
        self.end_batch(endings).await
    }

    fn batch(&self) -> usize {
        ending::BATCH
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        let asked = text::list(&self.names.procedures);
        let answer = self.links.ask(For::Ends, &asked).await;
        let rows = answer.map_err(|trouble| end_error("list_failed", &trouble))?;
        if !words(&rows, "outcome").is_empty() {
            return Err(ending::read_only());
        }
        let found = |row: &MySqlRow| {
            let row = std::slice::from_ref(row);
            let handle = words(row, "name").pop()?;
            lease::lease_of(&handle)?;
            let whose = match words(row, "whose").pop() {
                Some(owner) if owner == self.deployment.as_str() => Whose::Ours,
                Some(owner) => Whose::Anothers(format!("deployment {owner}")),
                None => Whose::Anothers("no record".into()),
            };
            Some(Found { handle, whose })
        };
        Ok(rows.iter().filter_map(found).collect())
    }
}

/// What an error instead of an identity means.
fn identify_error(trouble: &Trouble) -> EndError {
    match trouble {
        Trouble::Said {
            code: 1146 | 1305 | 1370 | 1449,
            ..
        } => end_problem(
            "not_prepared",
            format!(
                "{}; run what `countersign target init-sql` prints",
                trouble.detail()
            ),
        ),
        _ => end_error("look_failed", trouble),
    }
}

/// The scope in words, the statements, and how it ends.
fn explain(names: &Names, scope: &Scope, ttl: Seconds) -> Explanation {
    let mut words: Vec<String> = scope.grants.iter().map(scope::Grant::words).collect();
    words.push(format!(
        "at most {} connections at a time; statements stop after {} unless it asks for longer",
        scope.max_connections,
        Seconds(u64::try_from(scope.max_statement_seconds).unwrap_or(0))
    ));
    let account = "'jit_…'@'%'";
    let tls = if names.encrypted { " REQUIRE SSL" } else { "" };
    let mut exact = vec![format!(
        "CREATE USER {account} IDENTIFIED VIA {} USING '…'{tls} WITH MAX_USER_CONNECTIONS {} MAX_STATEMENT_TIME {}",
        names.plugin.name(),
        scope.max_connections,
        scope.max_statement_seconds
    )];
    let grants = scope.grants.iter();
    exact.extend(grants.map(|grant| format!("{} TO {account}", grant.statement())));
    if let Ok(procedure) = scope.grants.procedure() {
        exact.push(format!(
            "by procedure {}",
            Sql::new("").path(&names.procedures, &procedure)
        ));
    }
    Explanation {
        words,
        exact: exact.join(";\n"),
        ending: vec![
            format!(
                "after {ttl}, or earlier when finished or revoked: the account is locked, its sessions are killed, it is dropped"
            ),
            "MariaDB has no expiry to the second: the end needs the broker".into(),
            "proven by looking: no account (so no login), no session, no transaction left prepared"
                .into(),
        ],
        outlives: scope::outlives(&scope.grants),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;

    #[test]
    fn times_are_written_for_mariadb() {
        let text = text::timestamp(Time::from_millis(0));
        assert_eq!(text, "1970-01-01 00:00:00.000");
    }
}
