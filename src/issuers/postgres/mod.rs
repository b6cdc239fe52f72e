//! PostgreSQL: a login role per lease, made by a broker that is no superuser, dropped and proven gone.
//!
//! * A role gets its rights from group roles only, so its end never has to search tables for grants.
//! * A mint is one transaction in one message; an end is a fence first and cleaning second, each step repeatable.
//! * Nothing an agent wrote is ever executed by the broker or handed to anyone with power.
//!
//! | file | what it is |
//! |---|---|
//! | `sql` | how names and text are quoted |
//! | `scope` | what a credential may do |
//! | `scram` | what the server stores of a password |
//! | `text` | the statements of a credential's life |
//! | `links` | connections, deadlines, what an error means |
//! | `ending` | the slow way to end: step by step, past partial failures |
//! | `rehearsal` | whether a target is fit for use, in words a DBA can act on |
//! | `preparation` | what the DBA runs once |

mod ending;
mod links;
mod preparation;
mod rehearsal;
mod scope;
mod scram;
mod sql;
mod text;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgSslMode;

pub use preparation::preparation_sql;

use self::links::{Links, Server, Trouble};
use self::scope::{Scope, Surroundings};
use self::sql::{Ident, Sql};
use self::text::Birth;
use super::password::draw_password;
use super::{
    Credential, EndError, Ending, Found, Issuer, MintError, MintOrder, PostgresCredential, Proof,
    Rehearsal, Whose, is_loopback,
};
use crate::config::{DatabaseTls, PostgresTarget};
use crate::domain::{Explanation, Seconds, ServerId, TargetName, lease};
use crate::system::{Clock, Entropy};

/// Logins stay possible this long past the end, so that clocks may differ a little; the end itself does not wait.
const LOGIN_GRACE: Seconds = Seconds(60);

/// Mints and ends login roles in one PostgreSQL cluster.
pub struct PostgresIssuer {
    name: TargetName,
    target: PostgresTarget,
    quarantine: Ident,
    around: Surroundings,
    root_pem: Option<String>,
    sslmode: &'static str,
    links: Links,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for PostgresIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresIssuer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whether the target is this machine, so that nothing is on a wire.
fn is_local(host: &str) -> bool {
    host.starts_with('/') || is_loopback(host)
}

impl PostgresIssuer {
    /// An issuer for `target`. Connects nowhere yet.
    ///
    /// `root_pem` is the text of the target's `root_file`, when it names one.
    ///
    /// # Errors
    /// What in the target's configuration cannot stand, and what to write instead.
    pub fn new(
        name: &TargetName,
        target: &PostgresTarget,
        password: SecretString,
        root_pem: Option<String>,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let local = is_local(&target.host);
        let (mode, sslmode) = match target.tls {
            DatabaseTls::Disable if !local => {
                return Err(format!(
                    "target {name}: tls mode `disable` is for loopback addresses and Unix sockets only, not {}; use verify_full",
                    target.host
                ));
            }
            DatabaseTls::Disable => (PgSslMode::Disable, "disable"),
            DatabaseTls::VerifyFull | DatabaseTls::VerifyFullWith { .. } => {
                (PgSslMode::VerifyFull, "verify-full")
            }
        };
        if sslmode == "verify-full" && target.host.starts_with('/') {
            return Err(format!(
                "target {name}: a Unix socket has no TLS; set tls mode `disable` for it"
            ));
        }
        if matches!(target.tls, DatabaseTls::VerifyFullWith { .. })
            && !root_pem
                .as_deref()
                .is_some_and(|pem| pem.contains("-----BEGIN CERTIFICATE-----"))
        {
            return Err(format!(
                "target {name}: root_file holds no PEM certificate; put the authority's certificate in it"
            ));
        }
        let around = Surroundings::of(target);
        for text in [&target.database, &target.user] {
            Ident::new(text).map_err(|why| format!("target {name}: {why}"))?;
        }
        if target.max_connections == 0 || target.longest_ttl_seconds == 0 {
            return Err(format!(
                "target {name}: max_connections and longest_ttl_seconds must be at least 1"
            ));
        }
        let quarantine =
            Ident::new(&target.quarantine_role).map_err(|why| format!("target {name}: {why}"))?;
        if target.quarantine_role == target.user {
            return Err(format!(
                "target {name}: quarantine_role must be a role of its own, never the broker"
            ));
        }
        let links = Links::new(target, &password, mode, root_pem.as_deref(), clock.clone());
        Ok(Self {
            name: name.clone(),
            target: target.clone(),
            quarantine,
            around,
            root_pem,
            sslmode,
            links,
            entropy,
            clock,
        })
    }

    /// The messages that would mint `order` on PostgreSQL 16 or newer and end it in the common case, with the verifier
    /// of a password nobody knows. For benchmarks and for auditors.
    ///
    /// # Errors
    /// What is wrong with the order's scope.
    pub fn transcript(&self, order: &MintOrder) -> Result<[String; 2], String> {
        let scope = self.around.read(&order.scope)?;
        let role = Ident::new(&lease::handle_of(&order.lease))?;
        let password = draw_password(&*self.entropy);
        let birth = Birth {
            role: &role,
            verifier: &scram::draw_verifier(&password, &*self.entropy),
            valid_until: &text::timestamp(order.expires.plus(LOGIN_GRACE)),
            deadline: &text::timestamp(order.mint_until),
            comment: &self.comment(order),
        };
        let end = text::end_at_once(&role, &scope, true);
        Ok([text::mint(&birth, &scope, true), end].map(|sql| sql.to_string()))
    }

    fn comment(&self, order: &MintOrder) -> String {
        format!(
            "countersign target={} lease={} request={} agent={}",
            self.name, order.lease, order.request, order.agent
        )
    }

    /// What is sent to mint `order`, on `server`.
    fn mint_text(
        &self,
        role: &Ident,
        scope: &Scope,
        order: &MintOrder,
        server: Server,
        verifier: &str,
    ) -> Sql {
        let comment = self.comment(order);
        let birth = Birth {
            role,
            verifier,
            valid_until: &text::timestamp(server.clock(order.expires.plus(LOGIN_GRACE))),
            deadline: &text::timestamp(server.clock(order.mint_until)),
            comment: &comment,
        };
        text::mint(&birth, scope, server.has_grant_options())
    }

    /// Whether roles may be made on this version at all.
    fn accept_version(&self, server: Server) -> Result<(), MintError> {
        let refused = |code: &str, detail: &str| MintError::Refused {
            code: code.into(),
            detail: detail.into(),
        };
        match server.version / 10_000 {
            ..15 => Err(refused("version_too_old", "use PostgreSQL 15 or newer")),
            15 if !self.target.accept_pg15_createrole => Err(refused(
                "pg15_createrole_not_accepted",
                "on PostgreSQL 15 CREATEROLE is close to superuser; set accept_pg15_createrole = true or upgrade",
            )),
            _ => Ok(()),
        }
    }

    async fn mint_role(&self, order: &MintOrder) -> Result<PostgresCredential, MintError> {
        let refused = |code: &str, detail: String| MintError::Refused {
            code: code.into(),
            detail,
        };
        let scope = self
            .around
            .read(&order.scope)
            .map_err(|why| refused("bad_scope", why))?;
        let role = Ident::new(&lease::handle_of(&order.lease))
            .map_err(|why| refused("bad_handle", why))?;
        let late = || MintError::Unavailable {
            detail: "too late: the time for this mint is over".into(),
        };
        let borrowed = self.links.borrow(scope.database.as_str()).await;
        let borrowed = borrowed.map_err(|trouble| mint_error(&trouble))?;
        let server = borrowed.server();
        let mut borrowed = Some(borrowed);
        let ready = self.accept_version(server);
        let now = self.clock.now();
        if ready.is_err() || now > order.mint_until || order.expires <= now {
            self.links.give_back(borrowed);
            ready?;
            return Err(late());
        }
        let password = draw_password(&*self.entropy);
        let verifier = scram::draw_verifier(&password, &*self.entropy);
        let sql = self.mint_text(&role, &scope, order, server, &verifier);
        let answer = self.links.ask(&mut borrowed, &sql).await;
        self.links.give_back(borrowed);
        answer.map_err(|trouble| mint_error(&trouble))?;
        Ok(PostgresCredential {
            host: self.target.host.clone(),
            port: self.target.port,
            database: scope.database.as_str().to_owned(),
            user: role.as_str().to_owned(),
            password,
            sslmode: self.sslmode.into(),
            ca_pem: self.root_pem.clone(),
        })
    }

    fn role_of(handle: &str) -> Result<Ident, EndError> {
        let wrong = |detail: String| EndError {
            code: "bad_handle".into(),
            detail,
        };
        if lease::lease_of(handle).is_none() {
            return Err(wrong(format!("{handle:?} is no handle of this broker")));
        }
        Ident::new(handle).map_err(wrong)
    }
}

/// What a trouble while minting means.
fn mint_error(trouble: &Trouble) -> MintError {
    let detail = trouble.detail();
    let state = match trouble {
        Trouble::Unreachable(_) => return MintError::Unavailable { detail },
        Trouble::Lost(_) => return MintError::Unknown { detail },
        Trouble::Said { state, .. } => state.as_str(),
    };
    let code = match state {
        // A role of this name is there already: whoever made it, it has to be ended.
        "42710" => return MintError::Unknown { detail },
        "22012" => {
            let detail = "too late: the time for this mint was over when the target had made it; rolled back".into();
            return MintError::Unavailable { detail };
        }
        "42501" => "insufficient_privilege",
        "42704" => "role_missing",
        "42P01" | "3F000" => "scope_table_missing",
        "3D000" => "database_missing",
        "25006" => "read_only_target",
        _ if state.starts_with("28") => "broker_login_refused",
        _ if ["40", "53", "55", "57", "58", "XX"]
            .iter()
            .any(|class| state.starts_with(class)) =>
        {
            return MintError::Unavailable { detail };
        }
        _ => {
            return MintError::Refused {
                code: format!("sqlstate_{}", state.to_lowercase()),
                detail,
            };
        }
    };
    MintError::Refused {
        code: code.into(),
        detail,
    }
}

fn end_error(code: &str, trouble: &Trouble) -> EndError {
    let code = match trouble {
        Trouble::Unreachable(_) | Trouble::Lost(_) => "target_unavailable",
        Trouble::Said { .. } => code,
    };
    EndError {
        code: code.into(),
        detail: trouble.detail(),
    }
}

#[async_trait]
impl Issuer for PostgresIssuer {
    fn check_scope(&self, scope: &Value) -> Result<(), String> {
        self.around.check(scope)
    }

    fn longest_ttl(&self) -> Seconds {
        Seconds(self.target.longest_ttl_seconds)
    }

    fn explain(&self, scope: &Value, ttl: Seconds) -> Explanation {
        explain(&self.around, &self.name, scope, ttl)
    }

    async fn rehearse(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        self.rehearse_scopes(scopes).await
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        let server = format!("postgresql {}:{}", self.target.host, self.target.port);
        server.parse().map_err(|why| EndError {
            code: "bad_target".into(),
            detail: format!("{why}"),
        })
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        self.mint_role(order).await.map(Credential::Postgres)
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        let (handle, scope) = (ending.handle, ending.scope);
        let role = Self::role_of(handle)?;
        // A lease keeps its scope; whatever became of the rules for scopes, the access is cut.
        let scope = self.around.read(scope).ok();
        if let Some(scope) = &scope
            && self.end_at_once(&role, scope).await?
        {
            return Ok(());
        }
        self.end_step_by_step(&role, scope.as_ref()).await
    }

    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        Self::role_of(ending.handle)?;
        let seen = self.look_for(ending.handle).await?;
        Ok(Proof::Gone {
            seen,
            left: Vec::new(),
        })
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        let failed = |trouble: Trouble| end_error("list_failed", &trouble);
        let database = &self.target.database;
        // A ghost we may not kill (the proof will say so) is no reason to see nothing.
        match self.links.ask_once(database, &text::kill_ghosts()).await {
            Ok(_) | Err(Trouble::Said { .. }) => {}
            Err(trouble) => return Err(failed(trouble)),
        }
        let rows = self
            .links
            .ask_once(database, &text::list())
            .await
            .map_err(failed)?;
        let names = rows
            .iter()
            .filter_map(|row| row.try_get::<String, _>("name").ok());
        Ok(names
            .filter(|name| lease::lease_of(name).is_some())
            .map(|handle| Found {
                handle,
                whose: Whose::Ours,
            })
            .collect())
    }
}

/// The scope in words, the statements, and how it ends.
fn explain(around: &Surroundings, name: &TargetName, scope: &Value, ttl: Seconds) -> Explanation {
    let scope = match around.read(&around.filled(scope)) {
        Ok(scope) => scope,
        Err(why) => {
            return Explanation {
                words: vec![format!("nothing: {why}")],
                exact: String::new(),
                ending: Vec::new(),
                outlives: Vec::new(),
            };
        }
    };
    let database = scope.database.as_str();
    let mut words: Vec<String> = scope
        .roles
        .iter()
        .map(|role| {
            format!(
                "acts with the rights of role {} in database {database}",
                role.as_str()
            )
        })
        .collect();
    for (key, value) in &scope.rows {
        words.push(format!(
            "only rows where {key} = {value}, in tables whose policies read it"
        ));
    }
    words.push(format!(
        "at most {} connections at a time; statements stop after {} unless it asks for longer",
        scope.connection_limit,
        Seconds(u64::try_from(scope.statement_timeout_seconds).unwrap_or(0))
    ));
    let comment = format!("countersign target={name} lease=… request=… agent=…");
    let exact = Ident::new("jit_…").map(|role| {
        let birth = Birth {
            role: &role,
            verifier: "SCRAM-SHA-256$4096:…",
            valid_until: "(end of the lease + 60 s)",
            deadline: "(end of the mint window)",
            comment: &comment,
        };
        text::mint(&birth, &scope, true)
            .as_str()
            .replace("; ", ";\n")
    });
    Explanation {
        words,
        exact: exact.unwrap_or_default(),
        ending: vec![
            format!("after {ttl}, or earlier when finished or revoked: login is cut, open sessions are killed, the role is dropped"),
            "new logins fail 60 s after the end even if the broker is gone; sessions already open need the broker".into(),
            "proven by looking again: no role (so no login), no session, no prepared transaction".into(),
        ],
        outlives: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;

    fn said(state: &str) -> Trouble {
        Trouble::Said {
            state: state.into(),
            detail: "words".into(),
        }
    }

    #[test]
    fn errors_say_whether_anything_was_minted() {
        let code = |state: &str| match mint_error(&said(state)) {
            MintError::Refused { code, .. } => code,
            MintError::Unavailable { .. } => "unavailable".into(),
            MintError::Elsewhere { .. } => "elsewhere".into(),
            MintError::Unknown { .. } => "unknown".into(),
        };
        assert_eq!(code("42501"), "insufficient_privilege");
        assert_eq!(code("42704"), "role_missing");
        assert_eq!(code("42P01"), "scope_table_missing");
        assert_eq!(code("40001"), "unavailable");
        assert_eq!(code("55P03"), "unavailable");
        assert_eq!(code("22012"), "unavailable");
        assert_eq!(code("42710"), "unknown");
        assert_eq!(code("54000"), "sqlstate_54000");
        let lost = mint_error(&Trouble::Lost("cut".into()));
        assert!(matches!(lost, MintError::Unknown { .. }));
        let never = mint_error(&Trouble::Unreachable("refused".into()));
        assert!(matches!(never, MintError::Unavailable { .. }));
    }

    #[test]
    fn times_are_written_for_postgresql() {
        assert_eq!(
            text::timestamp(Time::from_millis(0)),
            "1970-01-01T00:00:00.000Z"
        );
    }
}
