//! Connections to one target: few, short-tempered, and never trusted.
//!
//! * Mints, kills and ends have connections of their own; nothing is minted while those of kills and ends are not open.
//! * Everything has a deadline, so a target that hangs costs its own callers only.
//! * A panic in the driver is an error of this target and nothing more.
//! * A connection is used again only when its last message was answered in full; else it is closed.
//! * What is asked for at connect is read back: something in between may have dropped it.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::mysql::{
    MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::sql::{MODE, Sql};
use crate::config::{DatabaseTls, MariadbTarget};
use crate::domain::Time;

const CONNECT: Duration = Duration::from_secs(5);
const QUEUE: Duration = Duration::from_secs(10);
/// Longer than an end kills.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a measured clock difference is believed, and how long an idle connection is.
const FRESH: Duration = Duration::from_secs(10);
/// An answer lost sooner than this was lost because the connection was closed before.
const AT_ONCE: Duration = Duration::from_secs(1);

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

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum For {
    /// Mints, and all that can wait behind them.
    Mints,
    /// Kills: messages that wait for nothing at the server.
    Kills,
    /// The other steps of ends, and looks. They may wait for locks there.
    Ends,
}

struct Link {
    connection: MySqlConnection,
    /// What the server's clock showed, and when that was known here.
    showed: (Time, Instant),
    fresh_since: Instant,
}

/// Connections of one kind.
struct Pool {
    permits: Semaphore,
    idle: Mutex<Vec<Link>>,
    /// Whether idle connections stay open, so that they are there when the server has no room for others.
    kept: bool,
}

impl Pool {
    fn new(most: usize, kept: bool) -> Self {
        Self {
            permits: Semaphore::new(most),
            idle: Mutex::default(),
            kept,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that can be believed. Older ones are closed, unless they are kept.
    fn idle_link(&self) -> Option<Link> {
        let mut idle = self.idle();
        if !self.kept {
            idle.retain(|link| link.fresh_since.elapsed() < FRESH);
        }
        idle.pop()
    }
}

/// The connections to one target.
pub struct Links {
    options: MySqlConnectOptions,
    /// The port for kills and ends when the usual one has no room or does not answer.
    extra_port: Option<u16>,
    mints: Pool,
    kills: Pool,
    ends: Pool,
}

impl Links {
    /// Prepares; connects nowhere.
    pub fn new(target: &MariadbTarget, password: &SecretString, root_pem: Option<&str>) -> Self {
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
        let most = usize::try_from(target.max_connections).unwrap_or(1);
        let ends = (most / 4).max(1);
        Self {
            options,
            extra_port: target.extra_port,
            mints: Pool::new(most.saturating_sub(ends + 1).max(1), false),
            kills: Pool::new(1, true),
            ends: Pool::new(ends, true),
        }
    }

    fn pool(&self, what: For) -> &Pool {
        match what {
            For::Mints => &self.mints,
            For::Kills => &self.kills,
            For::Ends => &self.ends,
        }
    }

    /// Sends `sql` as one message and gives all rows of all its results. What is not for mints is sent again when a
    /// connection that was kept open turns out to be closed.
    pub async fn ask(&self, what: For, sql: &Sql) -> Result<Vec<MySqlRow>, Trouble> {
        let pool = self.pool(what);
        let _permit = permit(pool).await?;
        if pool.kept
            && let Some(mut link) = pool.idle_link()
        {
            let begun = Instant::now();
            let answer = send(&mut link.connection, sql).await;
            let closed = matches!(answer, Err(Trouble::Lost(_))) && begun.elapsed() < AT_ONCE;
            if !closed {
                return keep(pool, link, answer);
            }
        }
        let mut link = self.open(what).await?;
        let answer = send(&mut link.connection, sql).await;
        keep(pool, link, answer)
    }

    /// As [`Links::ask`] for mints, with text that depends on the server's clock. The connections that will end what this
    /// makes are open before it is sent.
    pub async fn mint(
        &self,
        sql: impl FnOnce(&dyn Fn(Duration) -> Time) -> Sql,
    ) -> Result<Vec<MySqlRow>, Trouble> {
        let _permit = permit(&self.mints).await?;
        self.open_kept(For::Kills).await?;
        self.open_kept(For::Ends).await?;
        let mut link = match self.mints.idle_link() {
            Some(link) => link,
            None => self.open(For::Mints).await?,
        };
        let (showed, measured) = link.showed;
        let theirs = move |left: Duration| showed.after(measured.elapsed()).after(left);
        let sql = sql(&theirs);
        let answer = send(&mut link.connection, &sql).await;
        keep(&self.mints, link, answer)
    }

    /// Logs in as a lease would, and leaves.
    pub async fn log_in(&self, user: &str, password: &SecretString) -> Result<(), Trouble> {
        let options = self.options.clone().username(user);
        let options = options.password(password.expose_secret());
        self.open_at(options).await.map(drop)
    }

    /// Sees to it that a connection of this kind is open, or in use, which proves the same.
    async fn open_kept(&self, what: For) -> Result<(), Trouble> {
        let pool = self.pool(what);
        let Ok(_permit) = pool.permits.try_acquire() else {
            return Ok(());
        };
        let stale = match pool.idle_link() {
            Some(link) if link.fresh_since.elapsed() < FRESH => {
                pool.idle().push(link);
                return Ok(());
            }
            stale => stale,
        };
        if let Some(mut link) = stale
            && send(&mut link.connection, &Sql::new("DO 1")).await.is_ok()
        {
            link.fresh_since = Instant::now();
            pool.idle().push(link);
            return Ok(());
        }
        let link = self.open(what).await?;
        pool.idle().push(link);
        Ok(())
    }

    async fn open(&self, what: For) -> Result<Link, Trouble> {
        match (self.open_at(self.options.clone()).await, self.extra_port) {
            (
                Err(full @ (Trouble::Barred { code: 1040, .. } | Trouble::Unreachable(_))),
                Some(port),
            ) if what != For::Mints => {
                let opened = self.open_at(self.options.clone().port(port)).await;
                opened.map_err(|_| full)
            }
            (opened, _) => opened,
        }
    }

    async fn open_at(&self, options: MySqlConnectOptions) -> Result<Link, Trouble> {
        let connecting = async {
            let mut connection = options.connect().await.map_err(|error| barred(&error))?;
            let showed = measure(&mut connection).await?;
            Ok(Link {
                connection,
                showed: (showed, Instant::now()),
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

async fn permit(pool: &Pool) -> Result<SemaphorePermit<'_>, Trouble> {
    match timeout(QUEUE, pool.permits.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Trouble::Unreachable(
            "all connections to the target stayed busy; raise max_connections".into(),
        )),
    }
}

/// Keeps the connection if its message was answered in full, and not stopped in the middle.
fn keep(
    pool: &Pool,
    link: Link,
    answer: Result<Vec<MySqlRow>, Trouble>,
) -> Result<Vec<MySqlRow>, Trouble> {
    let stopped = matches!(
        answer,
        Err(Trouble::Said {
            code: 1317 | 1969,
            ..
        })
    );
    if matches!(answer, Ok(_) | Err(Trouble::Said { .. })) && !stopped {
        pool.idle().push(link);
    }
    answer
}

/// Pins the rules the text is read under and sees that they hold, and reads the server's clock. Nothing waits at the server for
/// longer than the broker does: statements on accounts stop for `max_statement_time` alone.
async fn measure(connection: &mut MySqlConnection) -> Result<Time, Trouble> {
    let pin = Sql::new("SET SESSION sql_mode = ").literal(MODE).text(
        ", lock_wait_timeout = 3, innodb_lock_wait_timeout = 3, max_statement_time = 10, wait_timeout = 604800, autocommit = 1, \
         completion_type = NO_CHAIN, sql_select_limit = 18446744073709551615, sql_big_selects = 1, \
         group_concat_max_len = 16777216, timestamp = DEFAULT; \
         SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE",
    );
    send(connection, &pin).await?;
    let sql = Sql::new(
        "SELECT CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000 AS SIGNED) AS now, \
         @@sql_mode AS modes, CONCAT_WS(' ', @@lock_wait_timeout, @@innodb_lock_wait_timeout, @@autocommit + 0, \
         @@max_statement_time DIV 1, @@completion_type, @@group_concat_max_len) AS settings",
    );
    let rows = send(connection, &sql).await?;
    let first = rows.first();
    let text = |column: &str| first.and_then(|row| row.try_get::<String, _>(column).ok());
    let modes = |text: &str| text.split(',').map(String::from).collect::<BTreeSet<_>>();
    let same = text("modes").is_some_and(|theirs| modes(&theirs) == modes(MODE));
    if !same || text("settings").as_deref() != Some("3 3 1 10 NO_CHAIN 16777216") {
        return Err(Trouble::Unreachable(
            "the session's settings are not the ones asked for; connect to the server directly, not through a proxy".into(),
        ));
    }
    let theirs: Option<i64> = first.and_then(|row| row.try_get("now").ok());
    theirs
        .map(Time::from_millis)
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
