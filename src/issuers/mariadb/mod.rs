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
//! | `text` | the procedures, and the calls of a credential's life |
//! | `links` | connections, deadlines, what an error means |
//! | `rehearsal` | whether a target is fit for use, in words a DBA can act on |
//! | `preparation` | what the DBA runs |

mod links;
mod preparation;
mod rehearsal;
mod scope;
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

use self::links::{Links, Trouble};
use self::preparation::Names;
use self::scope::{Scope, filled};
use self::sql::{Ident, Sql};
use super::password::draw_password;
use super::{
    Credential, EndError, Ending, Found, Issuer, MariadbCredential, MintError, MintOrder, Proof,
    Rehearsal, Whose, is_loopback,
};
use crate::config::{DatabaseTls, MariadbTarget};
use crate::domain::{Explanation, Seconds, ServerId, TargetName, lease};
use crate::system::{Clock, Entropy};

/// Mints and ends accounts at one MariaDB server.
pub struct MariadbIssuer {
    name: TargetName,
    target: MariadbTarget,
    names: Names,
    root_pem: Option<String>,
    links: Links,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
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
        if target.max_connections == 0 || target.longest_ttl_seconds == 0 {
            return Err(wrong(
                "max_connections and longest_ttl_seconds must be at least 1".into(),
            ));
        }
        Ident::new(&target.database).map_err(wrong)?;
        Ok(Self {
            name: name.clone(),
            target: target.clone(),
            names: Names::of(target).map_err(wrong)?,
            links: Links::new(target, &password, root_pem.as_deref(), clock.clone()),
            root_pem,
            entropy,
            clock,
        })
    }

    fn read(&self, scope: &Value) -> Result<Scope, String> {
        Scope::read(scope, &self.names.procedures)
    }

    async fn mint_account(&self, order: &MintOrder) -> Result<MariadbCredential, MintError> {
        let bad_scope = |detail: String| MintError::Refused {
            code: "bad_scope".into(),
            detail,
        };
        let scope = self.read(&order.scope).map_err(bad_scope)?;
        let handle = lease::handle_of(&order.lease);
        let now = self.clock.now();
        if now > order.mint_until || order.expires <= now {
            return Err(too_late());
        }
        let password = draw_password(&*self.entropy);
        let verifier = verifier::verifier(&password);
        let text =
            |until: &str| text::mint(&self.names.procedures, &handle, &verifier, &scope, until);
        text("").map_err(bad_scope)?;
        let answer = self
            .links
            .ask_with_clock(|theirs| {
                text(&text::timestamp(theirs(order.mint_until))).unwrap_or_default()
            })
            .await;
        outcome(answer)?;
        Ok(MariadbCredential {
            host: self.target.host.clone(),
            port: self.target.port,
            database: self.target.database.clone(),
            user: handle,
            password,
            verify_tls: self.names.encrypted,
            ca_pem: self.root_pem.clone(),
        })
    }

    /// Checks that nothing is left of an account.
    fn nothing_left(rows: &[MySqlRow]) -> Result<Vec<String>, EndError> {
        let count = |column: &str| number(rows, column);
        if count("accounts") != Some(0) {
            return Err(end_problem(
                "account_exists",
                "the account is still there; end it again",
            ));
        }
        if count("mints") != Some(0) {
            return Err(end_problem(
                "mint_under_way",
                "a mint of this account is still running; tried again",
            ));
        }
        if count("sessions") != Some(0) {
            return Err(end_problem(
                "session_alive",
                "a session of this account is still open; end it again",
            ));
        }
        Ok(["no_account", "no_session"].map(String::from).into())
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

fn too_late() -> MintError {
    MintError::Unavailable {
        detail: "too late: the time for this mint is over".into(),
    }
}

/// What the answer to a mint means. Anything unforeseen after the call was sent may have minted.
fn outcome(answer: Result<Vec<MySqlRow>, Trouble>) -> Result<(), MintError> {
    let rows = answer.map_err(|trouble| call_error(&trouble))?;
    let outcome = words(&rows, "outcome").pop().unwrap_or_default();
    let unknown = |detail: &str| MintError::Unknown {
        detail: detail.into(),
    };
    match outcome.as_str() {
        "minted" => Ok(()),
        "too_late" => Err(too_late()),
        // An account of this name is there already: whoever made it, it has to be ended.
        "exists" => Err(unknown("an account of this name is there, or being made")),
        "bad_argument" => Err(MintError::Refused {
            code: "bad_argument".into(),
            detail: "the procedure refused its arguments; run `countersign target init-sql` again"
                .into(),
        }),
        "refused" => {
            let code = number(&rows, "code").unwrap_or_default();
            let words = words(&rows, "words").pop().unwrap_or_default();
            Err(refusal(code, format!("{words} (error {code})")))
        }
        _ => Err(unknown("the procedure gave no outcome")),
    }
}

/// What the procedure met and cleaned up behind.
fn refusal(code: i64, detail: String) -> MintError {
    let code = match code {
        // Out of connections, memory, disk, time or locks.
        1021 | 1028 | 1037 | 1040 | 1041 | 1205 | 1213 | 1317 | 1969 => {
            return MintError::Unavailable { detail };
        }
        1044 | 1142 | 1143 | 1227 | 1370 | 1410 => "insufficient_privilege",
        1049 | 1054 | 1146 => "table_missing",
        1290 | 1836 => "read_only_target",
        1524 => "plugin_missing",
        code => {
            return MintError::Refused {
                code: format!("error_{code}"),
                detail,
            };
        }
    };
    MintError::Refused {
        code: code.into(),
        detail,
    }
}

/// What an error instead of an outcome means.
fn call_error(trouble: &Trouble) -> MintError {
    let detail = trouble.detail();
    let code = match trouble {
        Trouble::Unreachable(_) => return MintError::Unavailable { detail },
        Trouble::Lost(_) => return MintError::Unknown { detail },
        Trouble::Barred { code, .. } => match code {
            1044 | 1045 | 1049 | 1130 | 1698 | 1862 | 4151 => "broker_login_refused",
            _ => return MintError::Unavailable { detail },
        },
        // Said before the procedure began.
        Trouble::Said { code, .. } => match code {
            1046 | 1049 | 1305 | 1318 | 1370 => "not_prepared",
            1449 => "definer_missing",
            _ => return MintError::Unknown { detail },
        },
    };
    MintError::Refused {
        code: code.into(),
        detail,
    }
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

fn check_handle(handle: &str) -> Result<(), EndError> {
    match lease::lease_of(handle) {
        Some(_) => Ok(()),
        None => Err(end_problem(
            "bad_handle",
            format!("{handle:?} is no handle of this broker"),
        )),
    }
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
        let server = format!("mariadb {}:{}", self.target.host, self.target.port);
        server.parse().map_err(|why| EndError {
            code: "bad_target".into(),
            detail: format!("{why}"),
        })
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        self.mint_account(order).await.map(Credential::Mariadb)
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        let handle = ending.handle;
        check_handle(handle)?;
        let answer = self
            .links
            .ask(&text::end(&self.names.procedures, handle))
            .await;
        let rows = answer.map_err(|trouble| end_error("end_failed", &trouble))?;
        let said = words(&rows, "words").pop();
        Self::nothing_left(&rows).map(drop).map_err(|mut problem| {
            if let Some(said) = said {
                problem.detail = format!("{}; the server said: {said}", problem.detail);
            }
            problem
        })
    }

    /// The broker never knew the password for longer than the mint, so it cannot try a login: that the account is absent
    /// is the proof that login is refused.
    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        let handle = ending.handle;
        check_handle(handle)?;
        let answer = self
            .links
            .ask(&text::look(&self.names.procedures, handle))
            .await;
        let rows = answer.map_err(|trouble| end_error("look_failed", &trouble))?;
        Ok(Proof::Gone {
            seen: Self::nothing_left(&rows)?,
            left: Vec::new(),
        })
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        let answer = self.links.ask(&text::list(&self.names.procedures)).await;
        let rows = answer.map_err(|trouble| end_error("list_failed", &trouble))?;
        let mut names = words(&rows, "name");
        names.retain(|name| lease::lease_of(name).is_some());
        let found = names.into_iter().map(|handle| Found {
            handle,
            whose: Whose::Ours,
        });
        Ok(found.collect())
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
        "CREATE USER {account} IDENTIFIED VIA ed25519 USING '…'{tls} WITH MAX_USER_CONNECTIONS {} MAX_STATEMENT_TIME {}",
        scope.max_connections, scope.max_statement_seconds
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
            "proven by looking again: no account (so no login), no session".into(),
        ],
        outlives: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;

    fn of(code: u16) -> MintError {
        call_error(&Trouble::Said {
            code,
            detail: "words".into(),
        })
    }

    #[test]
    fn errors_say_whether_anything_was_minted() {
        assert!(matches!(of(1305), MintError::Refused { code, .. } if code == "not_prepared"));
        assert!(matches!(of(1449), MintError::Refused { code, .. } if code == "definer_missing"));
        assert!(matches!(of(1396), MintError::Unknown { .. }));
        assert!(matches!(of(2013), MintError::Unknown { .. }));
        let lost = call_error(&Trouble::Lost("cut".into()));
        assert!(matches!(lost, MintError::Unknown { .. }));
        let never = call_error(&Trouble::Unreachable("refused".into()));
        assert!(matches!(never, MintError::Unavailable { .. }));
        let busy = refusal(1205, String::new());
        assert!(matches!(busy, MintError::Unavailable { .. }));
        let no = refusal(1142, String::new());
        assert!(matches!(no, MintError::Refused { code, .. } if code == "insufficient_privilege"));
    }

    #[test]
    fn times_are_written_for_mariadb() {
        let text = text::timestamp(Time::from_millis(0));
        assert_eq!(text, "1970-01-01 00:00:00.000");
    }
}
