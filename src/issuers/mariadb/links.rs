//! Connections to one target: few, short-tempered, and never trusted.
//!
//! * At most `max_connections` are open at a time.
//! * Everything has a deadline, so a target that hangs costs its own callers only.
//! * A panic in the driver is an error of this target and nothing more.
//! * A connection is used again only when its last message was answered in full; else it is closed.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::mysql::{
    MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::sql::{MODE, Sql};
use crate::config::{DatabaseTls, MariadbTarget};
use crate::domain::Time;
use crate::system::Clock;

const CONNECT: Duration = Duration::from_secs(5);
const QUEUE: Duration = Duration::from_secs(10);
/// Longer than an end kills.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a measured clock difference is believed, and how long an idle connection is.
const FRESH: Duration = Duration::from_secs(10);

/// Why the target gave no good answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It could not be asked: nothing was sent.
    Unreachable(String),
    /// It did not let the broker in: nothing was sent.
    Barred {
        /// MariaDB's number.
        code: u16,
        /// Its words, shortened.
        detail: String,
    },
    /// It was asked and nobody knows what it did.
    Lost(String),
    /// It was asked and said no.
    Said {
        /// MariaDB's number.
        code: u16,
        /// Its words, shortened.
        detail: String,
    },
}

impl Trouble {
    /// The words, for the operator's log.
    pub fn detail(&self) -> String {
        match self {
            Trouble::Unreachable(detail) | Trouble::Lost(detail) => detail.clone(),
            Trouble::Barred { code, detail } | Trouble::Said { code, detail } => {
                format!("{detail} (error {code})")
            }
        }
    }
}

struct Link {
    connection: MySqlConnection,
    /// Milliseconds the server's clock is ahead of the broker's.
    ahead: i64,
    fresh_since: Instant,
}

/// The connections to one target.
pub struct Links {
    options: MySqlConnectOptions,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
    idle: Mutex<Vec<Link>>,
}

impl Links {
    /// Prepares; connects nowhere.
    pub fn new(
        target: &MariadbTarget,
        password: &SecretString,
        root_pem: Option<&str>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mode = match target.tls {
            DatabaseTls::Disable => MySqlSslMode::Disabled,
            DatabaseTls::VerifyFull | DatabaseTls::VerifyFullWith { .. } => {
                MySqlSslMode::VerifyIdentity
            }
        };
        let mut options = MySqlConnectOptions::new()
            .host(&target.host)
            .port(target.port)
            .username(&target.user)
            .password(password.expose_secret())
            .ssl_mode(mode)
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        if let Some(pem) = root_pem {
            options = options.ssl_ca_from_pem(pem.as_bytes().to_vec());
        }
        let most = usize::try_from(target.max_connections).unwrap_or(1).max(1);
        Self {
            options,
            clock,
            permits: Semaphore::new(most),
            idle: Mutex::default(),
        }
    }

    /// Sends `sql` as one message and gives all rows of all its results.
    pub async fn ask(&self, sql: &Sql) -> Result<Vec<MySqlRow>, Trouble> {
        self.ask_with_clock(|_| sql.clone()).await
    }

    /// As [`Links::ask`], with text that depends on the server's clock.
    pub async fn ask_with_clock(
        &self,
        sql: impl FnOnce(&dyn Fn(Time) -> Time) -> Sql,
    ) -> Result<Vec<MySqlRow>, Trouble> {
        let Ok(Ok(_permit)) = timeout(QUEUE, self.permits.acquire()).await else {
            let why = "all connections to the target stayed busy; raise max_connections";
            return Err(Trouble::Unreachable(why.into()));
        };
        let mut link = match self.idle_link() {
            Some(link) => link,
            None => self.open().await?,
        };
        let ahead = link.ahead;
        let theirs = move |time: Time| Time::from_millis(time.millis().saturating_add(ahead));
        let sql = sql(&theirs);
        let answer = send(&mut link.connection, &sql).await;
        if matches!(answer, Ok(_) | Err(Trouble::Said { .. })) {
            self.idle().push(link);
        }
        answer
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that can be believed. Older ones are closed.
    fn idle_link(&self) -> Option<Link> {
        let mut idle = self.idle();
        idle.retain(|link| link.fresh_since.elapsed() < FRESH);
        idle.pop()
    }

    async fn open(&self) -> Result<Link, Trouble> {
        let connecting = async {
            let mut connection = self
                .options
                .connect()
                .await
                .map_err(|error| barred(&error))?;
            let ahead = measure(&mut connection, &*self.clock).await?;
            Ok(Link {
                connection,
                ahead,
                fresh_since: Instant::now(),
            })
        };
        match timeout(CONNECT, AssertUnwindSafe(connecting).catch_unwind()).await {
            Ok(Ok(Err(Trouble::Lost(why)))) => Err(Trouble::Unreachable(why)),
            Ok(Ok(Err(Trouble::Said { code, detail }))) => Err(Trouble::Barred { code, detail }),
            Ok(Ok(opened)) => opened,
            Ok(Err(_)) => Err(Trouble::Unreachable(
                "the target's greeting was malformed".into(),
            )),
            Err(_) => Err(Trouble::Unreachable(format!(
                "no connection within {}s",
                CONNECT.as_secs()
            ))),
        }
    }
}

/// Pins the rules the text is read under, and compares the clocks.
async fn measure(connection: &mut MySqlConnection, clock: &dyn Clock) -> Result<i64, Trouble> {
    let pin = Sql::new("SET SESSION sql_mode = ")
        .literal(MODE)
        .text(", lock_wait_timeout = 3, max_statement_time = 0");
    send(connection, &pin).await?;
    let before = clock.now();
    let sql = Sql::new(
        "SELECT CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000 AS SIGNED) AS now",
    );
    let rows = send(connection, &sql).await?;
    let after = clock.now();
    let theirs: Option<i64> = rows.first().and_then(|row| row.try_get("now").ok());
    let ours = before.millis().midpoint(after.millis());
    theirs
        .map(|theirs| theirs.saturating_sub(ours))
        .ok_or_else(|| Trouble::Lost("the target did not say what time it is".into()))
}

async fn send(connection: &mut MySqlConnection, sql: &Sql) -> Result<Vec<MySqlRow>, Trouble> {
    let query = sqlx::raw_sql(AssertSqlSafe(sql.as_str().to_owned()));
    let answer = AssertUnwindSafe(connection.fetch_all(query)).catch_unwind();
    match timeout(ANSWER, answer).await {
        Ok(Ok(Ok(rows))) => Ok(rows),
        Ok(Ok(Err(error))) => Err(trouble(&error)),
        Ok(Err(_)) => Err(Trouble::Lost("the target's answer was malformed".into())),
        Err(_) => Err(Trouble::Lost(format!(
            "no answer within {}s",
            ANSWER.as_secs()
        ))),
    }
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

/// What an error after sending means.
fn trouble(error: &sqlx::Error) -> Trouble {
    let said = error.as_database_error();
    match said.and_then(|said| said.try_downcast_ref::<MySqlDatabaseError>()) {
        Some(said) => Trouble::Said {
            code: said.number(),
            detail: short(said.message()),
        },
        None => Trouble::Lost(short(&error.to_string())),
    }
}

/// What an error while connecting means; it carries no secret.
fn barred(error: &sqlx::Error) -> Trouble {
    match trouble(error) {
        Trouble::Said { code, detail } => Trouble::Barred { code, detail },
        Trouble::Unreachable(why) | Trouble::Lost(why) => Trouble::Unreachable(why),
        barred @ Trouble::Barred { .. } => barred,
    }
}
