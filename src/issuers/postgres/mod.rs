//! PostgreSQL: a login role per lease, made, ended and looked for by functions the DBA has reviewed.
//!
//! * The broker's account may call these functions and do nothing else.
//! * A role gets its rights from group roles only, so its end never has to search tables for grants.
//! * A mint is one transaction in one message; an end is a fence first and cleaning second, each step repeatable.
//! * Nothing an agent wrote is ever executed by the broker or handed to anyone with power.
//!
//! | file | what it is |
//! |---|---|
//! | `sql` | how names and text are quoted |
//! | `scope` | what a credential may do |
//! | `acting` | leases that act as an owner from their first statement |
//! | `explain` | a scope in words for those who approve it |
//! | `scram` | what the server stores of a password |
//! | `procedures` | the functions a DBA reviews; their bodies are in `functions/` |
//! | `judgement` | whether a scope's roles are ones a lease may have |
//! | `residue` | what a lease leaves behind, told and removed |
//! | `text` | the calls of a credential's life |
//! | `minting` | what is drawn, what is sent, what an answer means |
//! | `links` | connections, deadlines, what an error means |
//! | `pinned` | the connection that kills when nothing else works |
//! | `ending` | the fast way to end, the slow way past those who resist, and the proof |
//! | `rehearsal` | whether a target is fit for use, in words a DBA can act on |
//! | `preparation` | what the DBA runs |

mod acting;
mod ending;
mod explain;
mod judgement;
mod links;
mod minting;
mod pinned;
mod preparation;
mod procedures;
mod rehearsal;
mod residue;
mod scope;
mod scram;
mod sql;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgSslMode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use preparation::{Part, preparation_parts, preparation_sql};

use self::links::{Door, Links, Trouble};
use self::pinned::Pinned;
use self::procedures::Names;
use self::scope::Surroundings;
use self::sql::Ident;
use self::text::Leases;
use super::{
    Credential, Deployment, EndError, Ending, Found, Issuer, MintError, MintOrder, Proof,
    Rehearsal, Whose, is_loopback,
};
use crate::config::{DatabaseTls, PostgresTarget};
use crate::domain::{Explanation, Seconds, ServerId, TargetName, lease};
use crate::system::{Clock, Entropy};

/// How many leases are ended with one message.
const BATCH: usize = 500;
/// How many messages that end very many leases are under way at a time.
const WIDE: usize = 2;
/// How often the connections for ends are looked after.
const KEEP: Duration = Duration::from_secs(20);
/// One that kills, one for ends, one for mints.
const FEWEST_CONNECTIONS: u32 = 3;

/// Mints and ends login roles in one PostgreSQL cluster.
pub struct PostgresIssuer {
    name: TargetName,
    target: PostgresTarget,
    names: Names,
    around: Surroundings,
    deployment: Deployment,
    root_pem: Option<String>,
    sslmode: &'static str,
    door: Arc<Door>,
    links: Links,
    ends: Arc<Links>,
    pinned: Arc<Pinned>,
    /// The right to end very many leases with one message.
    wide: Semaphore,
    /// What keeps the connections for ends open, once there was a first use.
    keeping: OnceLock<JoinSet<()>>,
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
        deployment: Deployment,
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
        if target.max_connections < FEWEST_CONNECTIONS || target.longest_ttl_seconds == 0 {
            return Err(format!(
                "target {name}: max_connections must be at least {FEWEST_CONNECTIONS} (to kill, to end, to mint) and longest_ttl_seconds at least 1"
            ));
        }
        let names = Names::of(target).map_err(|why| format!("target {name}: {why}"))?;
        let door = Door::new(target, &password, mode, root_pem.as_deref());
        let door = Arc::new(door);
        // One is pinned; of the others half are for ends.
        let most = usize::try_from(target.max_connections).unwrap_or(usize::MAX);
        let for_ends = most / 2;
        let nobody = Leases {
            handles: &[],
            deployment: deployment.as_str(),
            server: None,
        };
        let rehearsal = text::kill(&names, &nobody)
            .text("; ")
            .then(&text::relieve(&names, ""));
        let pinned = Pinned::new(door.clone(), &target.database, rehearsal);
        Ok(Self {
            name: name.clone(),
            target: target.clone(),
            names,
            around,
            deployment,
            root_pem,
            sslmode,
            links: Links::new(door.clone(), most.saturating_sub(for_ends + 1)),
            ends: Arc::new(Links::new(door.clone(), for_ends)),
            pinned: Arc::new(pinned),
            wide: Semaphore::new(WIDE),
            door,
            keeping: OnceLock::new(),
            entropy,
            clock,
        })
    }

    /// Opens what ends need before they need it, and keeps it open.
    fn keep_ready(&self) {
        self.keeping.get_or_init(|| {
            let (ends, pinned) = (self.ends.clone(), self.pinned.clone());
            let database = self.target.database.clone();
            let mut keeping = JoinSet::new();
            keeping.spawn(async move {
                loop {
                    pinned.keep().await;
                    ends.keep_open(&database).await;
                    sleep(KEEP).await;
                }
            });
            keeping
        });
    }
}

/// Checks a scope, rendered or with placeholders, at a target with this database, this user for the broker and this
/// schema of procedures. Pure.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(super) fn check_scope(
    database: &str,
    broker: &str,
    procedures: &str,
    scope: &Value,
) -> Result<(), String> {
    let around = Surroundings {
        database: database.into(),
        broker: broker.into(),
        procedures: procedures.into(),
    };
    around.check(scope)
}

fn check_handle(handle: &str) -> Result<(), EndError> {
    match lease::lease_of(handle) {
        Some(_) => Ok(()),
        None => Err(EndError {
            code: "bad_handle".into(),
            detail: format!("{handle:?} is no handle of this broker"),
        }),
    }
}

fn end_error(code: &str, trouble: &Trouble) -> EndError {
    let code = match trouble {
        Trouble::Unreachable(_) | Trouble::Lost(_) => "target_unavailable",
        Trouble::Refused { code, .. } => code,
        Trouble::Said { state, .. } => match state.as_str() {
            "42P01" | "3F000" | "42883" => "not_prepared",
            "25006" => "read_only_target",
            _ => code,
        },
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
        explain::explain(&self.around, scope, ttl, |scope| {
            text::exact(&self.names, scope)
        })
    }

    async fn rehearse(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        self.rehearse_scopes(scopes).await
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        self.keep_ready();
        let sql = text::identify(&self.names);
        let mut answer = self.links.ask_once(&self.target.database, &sql).await;
        if matches!(answer, Err(Trouble::Lost(_))) {
            // It asks only, so it may be asked again, over another connection.
            answer = self.links.ask_once(&self.target.database, &sql).await;
        }
        let rows = answer.map_err(|trouble| end_error("identify_failed", &trouble))?;
        let server: Option<String> = rows.first().and_then(|row| row.try_get("server").ok());
        server.unwrap_or_default().parse().map_err(|why| EndError {
            code: "identify_failed".into(),
            detail: format!("the server does not say what it is: {why}"),
        })
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        self.mint_role(order).await.map(Credential::Postgres)
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        self.end_and_prove(ending).await.map(drop)
    }

    /// The broker never knew the password for longer than the mint, so it cannot try a login: that the role is absent is the
    /// proof that login is refused.
    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        self.keep_ready();
        check_handle(ending.handle)?;
        self.look_for(&self.home(ending), ending.server, ending.handle)
            .await
    }

    async fn end_and_prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        let mut results = self.end_all(std::slice::from_ref(ending)).await;
        results.pop().unwrap_or_else(|| {
            Err(EndError {
                code: "end_failed".into(),
                detail: "the end had no result; tried again".into(),
            })
        })
    }

    async fn end_all(&self, endings: &[Ending<'_>]) -> Vec<Result<Proof, EndError>> {
        let mut results = Vec::with_capacity(endings.len());
        for (ending, ended) in endings.iter().zip(self.end_willing(endings).await) {
            results.push(match ended {
                Some(result) => result,
                None => {
                    let home = self.home(ending);
                    self.end_step_by_step(&home, ending.server, ending.handle)
                        .await
                }
            });
        }
        results
    }

    async fn end_willing(&self, endings: &[Ending<'_>]) -> Vec<Option<Result<Proof, EndError>>> {
        self.keep_ready();
        let mut groups: BTreeMap<(String, Option<&str>), Vec<usize>> = BTreeMap::new();
        let mut results = Vec::with_capacity(endings.len());
        for (index, ending) in endings.iter().enumerate() {
            let checked = check_handle(ending.handle);
            if checked.is_ok() {
                let group = (self.home(ending), ending.server.map(ServerId::as_str));
                groups.entry(group).or_default().push(index);
            }
            results.push(checked.err().map(Err));
        }
        for ((database, _), members) in groups {
            let of = |index: &usize| endings.get(*index);
            let handles: Vec<_> = members.iter().filter_map(of).map(|of| of.handle).collect();
            let server = members.first().and_then(of).and_then(|of| of.server);
            let ended = self.end_together(&database, server, &handles).await;
            for (index, result) in members.into_iter().zip(ended) {
                if let Some(place) = results.get_mut(index) {
                    *place = result;
                }
            }
        }
        results
    }

    fn batch(&self) -> usize {
        BATCH
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        self.keep_ready();
        let sql = text::list(&self.names, self.deployment.as_str());
        let rows = self.ends.ask_once(&self.target.database, &sql).await;
        let rows = rows.map_err(|trouble| end_error("list_failed", &trouble))?;
        let found = rows.iter().filter_map(|row| {
            let handle: String = row.try_get("handle").ok()?;
            let record: Option<String> = row.try_get("deployment").ok()?;
            lease::lease_of(&handle)?;
            let whose = match record {
                Some(record) if record == self.deployment.as_str() => Whose::Ours,
                Some(record) => Whose::Anothers(format!("deployment {record}")),
                None => Whose::Anothers("no record".into()),
            };
            Some(Found { handle, whose })
        });
        Ok(found.collect())
    }
}
