//! Connections to one target: few, short-tempered, never trusted, and some of them kept for ends.
//!
//! * Mints and ends have connections of their own, so that neither waits for the other; those for ends are opened before
//!   they are needed and kept.
//! * One more is pinned for killing (see [`super::pinned`]).
//! * Everything has a deadline, so a target that hangs costs its own callers only.
//! * A panic in the driver is an error of this target and nothing more.
//! * A connection is used again only when its last message was answered in full; else it is closed.
//! * What was asked for at connect is read back: a pooler that drops it is refused.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgDatabaseError, PgRow, PgSeverity, PgSslMode,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::sql::{Ident, Sql};
use crate::config::PostgresTarget;
use crate::domain::Time;

const CONNECT: Duration = Duration::from_secs(5);
const QUEUE: Duration = Duration::from_secs(10);
/// Longer than the server's own `statement_timeout`, which should come first.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a measured clock is believed, and how long an idle connection is.
const FRESH: Duration = Duration::from_secs(10);
/// What each connection is opened with, as the server shows it.
const PINNED: [(&str, &str); 9] = [
    ("search_path", "pg_catalog,pg_temp"),
    ("statement_timeout", "15s"),
    ("lock_timeout", "3s"),
    ("idle_in_transaction_session_timeout", "10min"),
    ("standard_conforming_strings", "on"),
    ("client_min_messages", "error"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    // What the server writes out (policies, names) is compared as text.
    ("quote_all_identifiers", "off"),
];

/// The SQLSTATE our functions refuse with: the message is a stable code, the detail words.
const OURS: &str = "CS000";

/// Why the target gave no good answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It could not be asked: nothing was sent.
    Unreachable(String),
    /// It was asked and nobody knows what it did.
    Lost(String),
    /// One of our functions said no and changed nothing, or what was asked for at connect does not hold.
    Refused {
        /// Stable code.
        code: String,
        /// For the operator's log.
        detail: String,
    },
    /// It said no, and rolled back.
    Said {
        /// The SQLSTATE.
        state: String,
        /// Its words, shortened.
        detail: String,
    },
}

impl Trouble {
    /// The words, for the operator's log.
    pub fn detail(&self) -> String {
        match self {
            Trouble::Unreachable(detail)
            | Trouble::Lost(detail)
            | Trouble::Refused { detail, .. } => detail.clone(),
            Trouble::Said { state, detail } => format!("{detail} (SQLSTATE {state})"),
        }
    }
}

/// What is known of the server at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// What its clock showed.
    showed: Time,
    /// When that was known here: no step of a wall clock, its or ours, moves what is worked out from the two.
    measured: Instant,
}

impl Server {
    /// The instant so long from now, by the server's clock. Never too late: the answer took its time.
    pub fn in_(&self, left: Duration) -> Time {
        self.showed.after(self.measured.elapsed()).after(left)
    }
}

struct Link {
    database: String,
    connection: PgConnection,
    server: Server,
    used: Instant,
}

/// A connection in use, and the right to have it open.
pub struct Borrowed<'a> {
    link: Link,
    permit: SemaphorePermit<'a>,
}

impl Borrowed<'_> {
    /// The server at the other end.
    pub fn server(&self) -> Server {
        self.link.server
    }
}

/// How to connect to one target.
pub struct Door {
    options: PgConnectOptions,
}

/// The connections for one kind of work at one target.
pub struct Links {
    door: Arc<Door>,
    permits: Semaphore,
    most: usize,
    idle: Mutex<Vec<Link>>,
}

impl Door {
    /// Prepares; connects nowhere.
    pub fn new(
        target: &PostgresTarget,
        password: &SecretString,
        mode: PgSslMode,
        root_pem: Option<&str>,
    ) -> Self {
        let options = connect_options(&target.host, target.port, mode, root_pem)
            .username(&target.user)
            .password(password.expose_secret())
            .application_name("countersign")
            .options(PINNED)
            .statement_cache_capacity(0);
        Self { options }
    }

    /// Connects as the broker.
    pub async fn open(&self, database: &str) -> Result<PgConnection, Trouble> {
        let link = self.enter(self.options.clone(), database).await?;
        Ok(link.connection)
    }

    async fn enter(&self, options: PgConnectOptions, database: &str) -> Result<Link, Trouble> {
        let options = options.database(database);
        let connecting = async {
            let mut connection = connect(&options).await?;
            read_back(&mut connection).await?;
            let server = measure(&mut connection).await?;
            Ok(Link {
                database: database.to_owned(),
                connection,
                server,
                used: Instant::now(),
            })
        };
        match timeout(CONNECT, AssertUnwindSafe(connecting).catch_unwind()).await {
            Ok(Ok(Ok(link))) => Ok(link),
            Ok(Ok(Err(Trouble::Lost(why)))) => Err(Trouble::Unreachable(why)),
            Ok(Ok(Err(trouble))) => Err(trouble),
            Ok(Err(_)) => Err(Trouble::Unreachable(
                "the target's greeting was malformed".into(),
            )),
            Err(_) => Err(Trouble::Unreachable(format!(
                "no connection within {}s",
                CONNECT.as_secs()
            ))),
        }
    }

    /// Connects as the broker, becomes `role` and asks for `sql`, alone in its message.
    pub async fn act(&self, database: &str, role: &Ident, sql: &Sql) -> Result<(), Trouble> {
        let mut connection = self.open(database).await?;
        send(&mut connection, &Sql::new("SET ROLE ").ident(role)).await?;
        send(&mut connection, sql).await.map(drop)
    }

    /// Logs in as somebody else, the way an agent does, asks once and keeps the connection.
    pub async fn visit(
        &self,
        database: &str,
        user: &str,
        password: &SecretString,
        sql: &Sql,
    ) -> Result<Visit, Trouble> {
        let options = self
            .options
            .clone()
            .username(user)
            .password(password.expose_secret())
            .application_name("countersign rehearsal");
        let mut link = self.enter(options, database).await?;
        send(&mut link.connection, sql).await?;
        Ok(Visit(link))
    }
}

impl Links {
    /// At most `most` connections through `door`; opens none yet.
    pub fn new(door: Arc<Door>, most: usize) -> Self {
        Self {
            door,
            permits: Semaphore::new(most.max(1)),
            most: most.max(1),
            idle: Mutex::default(),
        }
    }

    /// A connection to `database`, idle or new, with a fresh measure of the server's clock.
    pub async fn borrow(&self, database: &str) -> Result<Borrowed<'_>, Trouble> {
        let permit = match timeout(QUEUE, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            _ => {
                let why = "all connections to the target stayed busy; raise max_connections";
                return Err(Trouble::Unreachable(why.into()));
            }
        };
        while let Some(mut link) = self.take_idle(database) {
            if self.is_good(&mut link).await {
                return Ok(Borrowed { link, permit });
            }
            // One that no longer answers is a reason to doubt them all, not to wait for each.
            self.idle().clear();
        }
        let link = self.door.enter(self.door.options.clone(), database).await?;
        Ok(Borrowed { link, permit })
    }

    /// Whether an idle connection may be used; one that was long unused is asked.
    async fn is_good(&self, link: &mut Link) -> bool {
        if link.used.elapsed() <= FRESH && link.server.measured.elapsed() <= FRESH {
            return true;
        }
        let measured = timeout(CONNECT, measure(&mut link.connection)).await;
        match measured {
            Ok(Ok(server)) => {
                link.server = server;
                true
            }
            _ => false,
        }
    }

    /// Sees to it that a connection to `database` is open, without waiting for one that is in use.
    pub async fn keep_open(&self, database: &str) {
        if self.permits.available_permits() < self.most && self.idle().is_empty() {
            return;
        }
        let borrowed = self.borrow(database).await.ok();
        self.give_back(borrowed);
    }

    /// Sends `sql` as one message and gives all rows; the connection goes back unless the answer was cut off.
    pub async fn ask(
        &self,
        borrowed: &mut Option<Borrowed<'_>>,
        sql: &Sql,
    ) -> Result<Vec<PgRow>, Trouble> {
        let Some(mut taken) = borrowed.take() else {
            return Err(Trouble::Unreachable("the connection was closed".into()));
        };
        let answer = send(&mut taken.link.connection, sql).await;
        match &answer {
            Ok(_) => *borrowed = Some(taken),
            Err(Trouble::Said { .. } | Trouble::Refused { .. }) => {
                let rollback = Sql::new("ROLLBACK");
                if send(&mut taken.link.connection, &rollback).await.is_ok() {
                    *borrowed = Some(taken);
                }
            }
            Err(_) => {}
        }
        answer
    }

    /// Gives a connection back.
    pub fn give_back(&self, borrowed: Option<Borrowed<'_>>) {
        let Some(Borrowed { mut link, permit }) = borrowed else {
            return;
        };
        link.used = Instant::now();
        self.idle().push(link);
        drop(permit);
    }

    /// Borrows, asks once, gives back.
    pub async fn ask_once(&self, database: &str, sql: &Sql) -> Result<Vec<PgRow>, Trouble> {
        let mut borrowed = Some(self.borrow(database).await?);
        let answer = self.ask(&mut borrowed, sql).await;
        self.give_back(borrowed);
        answer
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an idle connection to `database`; when there is none, closes one to another so that the bound holds.
    fn take_idle(&self, database: &str) -> Option<Link> {
        let mut idle = self.idle();
        if let Some(index) = idle.iter().rposition(|link| link.database == database) {
            return Some(idle.swap_remove(index));
        }
        // Ours is one of the permits taken, and it will be open too.
        let taken = self.most.saturating_sub(self.permits.available_permits());
        if idle.len() + taken > self.most && !idle.is_empty() {
            idle.swap_remove(0);
        }
        None
    }
}

/// A session opened with a minted credential.
pub struct Visit(Link);

impl Visit {
    /// Asks once more.
    pub async fn ask(&mut self, sql: &Sql) -> Result<Vec<PgRow>, Trouble> {
        send(&mut self.0.connection, sql).await
    }

    /// Whether the session still answers.
    pub async fn is_alive(&mut self) -> bool {
        self.ask(&Sql::new("SELECT 1")).await.is_ok()
    }
}

/// Options that say everything the environment could otherwise say.
fn connect_options(
    host: &str,
    port: u16,
    mode: PgSslMode,
    root_pem: Option<&str>,
) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port)
        .ssl_mode(mode)
        .disable_statement_logging();
    match root_pem {
        Some(pem) => options.ssl_root_cert_from_pem(pem.as_bytes().to_vec()),
        None => options,
    }
}

/// Connects; errors carry no secret.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Trouble> {
    options
        .connect()
        .await
        .map_err(|error| match trouble(&error) {
            // PgBouncer's words, when it was not told to ignore them.
            Trouble::Lost(why) if why.starts_with("unsupported startup parameter") => pooler(),
            Trouble::Lost(why) => Trouble::Unreachable(why),
            other => other,
        })
}

/// What was asked for at connect does not reach the target.
fn pooler() -> Trouble {
    Trouble::Refused {
        code: "options_dropped".into(),
        detail: "something between here and the target drops startup options: connect directly, without a pooler".into(),
    }
}

/// Refuses a connection on which what was asked for does not hold.
async fn read_back(connection: &mut PgConnection) -> Result<(), Trouble> {
    let mut sql = Sql::new("SELECT ARRAY[");
    for (index, (setting, _)) in PINNED.iter().enumerate() {
        sql = sql.text(if index == 0 { "" } else { ", " });
        sql = sql
            .text("pg_catalog.current_setting(")
            .literal(setting)
            .text(")");
    }
    let rows = send(connection, &sql.text("] AS settings")).await?;
    let settings: Vec<String> = rows
        .first()
        .and_then(|row| row.try_get("settings").ok())
        .unwrap_or_default();
    let plain = |text: &str| text.replace(' ', "");
    let holds = |((_, asked), has): (&(&str, &str), &String)| plain(asked) == plain(has);
    if settings.len() == PINNED.len() && PINNED.iter().zip(&settings).all(holds) {
        return Ok(());
    }
    Err(pooler())
}

async fn measure(connection: &mut PgConnection) -> Result<Server, Trouble> {
    let sql = Sql::new(
        "SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 AS now",
    );
    let rows = send(connection, &sql).await?;
    let theirs: Option<i64> = rows.first().and_then(|row| row.try_get("now").ok());
    let theirs =
        theirs.ok_or_else(|| Trouble::Lost("the target did not say what time it is".into()))?;
    Ok(Server {
        showed: Time::from_millis(theirs),
        measured: Instant::now(),
    })
}

/// One simple-query message. A message is executed or not as a whole by its own `BEGIN` and `COMMIT`, so a broker that
/// is frozen after this call left nothing half done.
pub async fn send(connection: &mut PgConnection, sql: &Sql) -> Result<Vec<PgRow>, Trouble> {
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

/// What an error after sending means. A fatal one may arrive after the commit it interrupts, so it settles nothing.
fn trouble(error: &sqlx::Error) -> Trouble {
    let short = |text: &str| -> String { text.chars().take(300).collect() };
    let Some(said) = error.as_database_error() else {
        return Trouble::Lost(short(&error.to_string()));
    };
    let said = said.downcast_ref::<PgDatabaseError>();
    if said.code() == OURS {
        return Trouble::Refused {
            code: said.message().to_owned(),
            detail: short(said.detail().unwrap_or_default()),
        };
    }
    let detail = short(&match said.detail() {
        Some(detail) => format!("{}: {detail}", said.message()),
        None => said.message().to_owned(),
    });
    let at_login = said.code().starts_with("28") || ["3D000", "42501"].contains(&said.code());
    match said.severity() {
        PgSeverity::Fatal | PgSeverity::Panic if !at_login => Trouble::Lost(detail),
        _ => Trouble::Said {
            state: said.code().to_owned(),
            detail,
        },
    }
}
