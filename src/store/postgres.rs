//! The store for production: one PostgreSQL database, any number of brokers.
//!
//! Promises beside the trait's: compare-and-swap on the head row decides between brokers, so that a stale one
//! is refused by the database; nothing is read from a standby; an append is one statement, hence one
//! transaction and one round trip, with the answer read to its end; unqualified names mean our schema only.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgPool, SqlSafeStr};
use tokio::sync::{Mutex, watch};

use super::rows::{edge_bytes, id_bytes, to_sql};
use super::sql::{self, Database, Dialect, PATIENCE, Trouble, not_migrated, too_slow};
use super::{Batch, StoreError};
use crate::ledger::packed::pack;

const SCHEMA: &str = "countersign_store";
const CHANNEL: &str = "countersign_store";

/// One statement: whoever finds the head as expected moves it and writes; the others wait for the
/// row, see it moved and write nothing. It answers one row when it wrote. Rows that a trigger or a policy of the database
/// swallowed would be missing for ever: then it divides by zero, and nothing is written.
const APPEND: &str = "WITH moved AS ( \
        UPDATE head SET size = $2, edge = $3, checkpoint = $4 WHERE size = $1 AND edge = $22 RETURNING size \
    ), written AS ( \
        INSERT INTO entries (seq, bytes, leaf, sig, kind, time, request, lease, agent, action, actor, outcome, key) \
        SELECT entry.* FROM moved, UNNEST($5::bigint[], $6::bytea[], $7::bytea[], $8::text[], $9::text[], \
            $10::bigint[], $11::bytea[], $12::bytea[], $13::text[], $14::text[], $15::text[], $16::text[], $23::bytea[]) AS entry \
        RETURNING 1 \
    ), kept AS ( \
        INSERT INTO blobs (sha256, salt, bytes) \
        SELECT blob.* FROM moved, UNNEST($17::bytea[], $18::bytea[], $19::bytea[]) AS blob \
        ON CONFLICT (sha256) DO NOTHING \
    ) \
    SELECT CASE WHEN (SELECT count(*) FROM written) = cardinality($5) THEN pg_notify($20, $21) IS NULL \
        ELSE (1 / (size - size)) IS NULL END FROM moved";
const SCHEMA_EXISTS: &str = "SELECT to_regnamespace($1) IS NOT NULL";
const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS countersign_store";
const NUMBER: &str = "SELECT nextval('broker_number')";
const IS_STANDBY: &str = "SELECT pg_is_in_recovery()";
const WAIT_FOR_DISK: &str = "SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') = 'off'";

/// How long [`super::Store::changed`] waits for a notification. They may get lost, so this is also how late
/// a broker hears of another's append at worst.
const A_WHILE: Duration = Duration::from_secs(2);

/// What a URL may say. Anything else is refused: `options` could move the search path.
static URL_KEYS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    HashSet::from([
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "host",
        "port",
        "dbname",
        "user",
        "password",
    ])
});

/// The store for any number of brokers.
pub struct PostgresStore {
    options: PgConnectOptions,
    pool: PgPool,
    /// The connection that appends. Taken out while in use, and put back only in a known state.
    writer: Mutex<Option<PgConnection>>,
    listener: Mutex<Option<PgListener>>,
    heard: watch::Sender<()>,
    /// Which broker we are, to know our own notifications.
    number: String,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects to `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=…` and prepares the schema
    /// `countersign_store`. A host that is not this machine needs `sslmode=verify-full`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a URL that is not acceptable, a standby, or a database a newer Countersign
    /// wrote; [`StoreError::Failed`] when the server cannot be reached or refuses. No error shows the URL.
    pub async fn connect(url: &SecretString) -> Result<Self, StoreError> {
        let options = options(url)?;
        let failed = |error: sqlx::Error| StoreError::Failed {
            operation: "connect to the ledger's PostgreSQL; check the URL in store.url_file, that the server \
                 runs, and that the role may log in",
            source: error.into(),
        };
        let writer = tokio::time::timeout(PATIENCE, open(&options));
        let mut writer = writer
            .await
            .map_err(|_| failed(too_slow()))?
            .map_err(failed)?;
        if is_standby(&mut writer).await.map_err(failed)? {
            return Err(StoreError::Refused(
                "the ledger's PostgreSQL is a standby; put the primary's address into store.url_file".into(),
            ));
        }
        create_schema(&mut writer).await?;
        let migrated = migrator().run(&mut writer).await;
        migrated.map_err(|error| not_migrated(error, "the ledger's database"))?;
        let (number,): (i64,) = sqlx::query_as(NUMBER)
            .fetch_one(&mut writer)
            .await
            .map_err(failed)?;
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(Duration::from_secs(10))
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                // One that rested may be dead; one just used is not worth a round trip.
                let rested = meta.idle_for > Duration::from_secs(5);
                Box::pin(async move {
                    if rested {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| Box::pin(on_connect(connection)))
            .connect_lazy_with(options.clone());
        Ok(Self {
            options,
            pool,
            writer: Mutex::new(Some(writer)),
            listener: Mutex::new(None),
            heard: watch::Sender::new(()),
            number: number.to_string(),
        })
    }

    /// Every text this adapter sends, for the test that prepares them.
    pub fn statements() -> Vec<&'static str> {
        let own = [
            APPEND,
            SCHEMA_EXISTS,
            CREATE_SCHEMA,
            NUMBER,
            IS_STANDBY,
            WAIT_FOR_DISK,
        ];
        sql::SHARED.into_iter().chain(own).collect()
    }

    /// Whether the batch was written.
    async fn send(
        writer: &mut PgConnection,
        batch: Batch,
        number: &str,
    ) -> Result<bool, sqlx::Error> {
        let mut columns = Columns::default();
        for entry in batch.entries {
            columns.push(entry);
        }
        let mut blobs: [Vec<Vec<u8>>; 3] = Default::default();
        for blob in batch.blobs {
            let row = [blob.sha256.0.to_vec(), blob.salt.to_vec(), blob.bytes];
            for (column, value) in blobs.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let [hashes, salts, texts] = blobs;
        let query = sqlx::query_as::<_, (bool,)>(APPEND)
            .bind(to_sql(batch.expected.size()))
            .bind(to_sql(batch.head.size))
            .bind(edge_bytes(&batch.head.edge))
            .bind(batch.head.checkpoint)
            .bind(columns.seq)
            .bind(columns.bytes)
            .bind(columns.leaf)
            .bind(columns.signature)
            .bind(columns.kind)
            .bind(columns.time)
            .bind(columns.request)
            .bind(columns.lease)
            .bind(columns.agent)
            .bind(columns.action)
            .bind(columns.actor)
            .bind(columns.outcome)
            .bind(hashes)
            .bind(salts)
            .bind(texts)
            .bind(CHANNEL)
            .bind(number)
            .bind(edge_bytes(batch.expected.edge()))
            .bind(columns.key);
        // Read to the end: the row comes before the commit, "ready for query" after it.
        Ok(!query.fetch_all(writer).await?.is_empty())
    }

    /// Waits for another broker's notification. Keeps the listener for the next caller, whatever happens.
    async fn listen(&self) -> Result<(), sqlx::Error> {
        let mut kept = self.listener.lock().await;
        let listener = match &mut *kept {
            Some(listener) => listener,
            none => {
                let mut listener = PgListener::connect_with(&self.pool).await?;
                listener.listen(CHANNEL).await?;
                none.insert(listener)
            }
        };
        loop {
            match listener.try_recv().await {
                Ok(Some(heard)) if heard.payload() == self.number => {}
                // `None`: the connection was lost and is back; something may have been missed.
                Ok(_) => return Ok(()),
                Err(error) => {
                    *kept = None;
                    return Err(error);
                }
            }
        }
    }
}

#[async_trait]
impl Dialect for PostgresStore {
    fn database(&self) -> Database<'_> {
        Database::Postgres(&self.pool)
    }

    async fn append_checked(&self, batch: Batch) -> Result<(), StoreError> {
        let operation =
            "append ledger entries; check that the ledger's PostgreSQL runs and has space";
        let mut kept = self.writer.lock().await;
        let mut writer = match kept.take() {
            Some(writer) => writer,
            None => tokio::time::timeout(PATIENCE, open(&self.options))
                .await
                .unwrap_or_else(|_| Err(too_slow()))
                .map_err(|error| Trouble { sent: false, error }.writing(operation))?,
        };
        let sent = Self::send(&mut writer, batch, &self.number);
        let answer = tokio::time::timeout(PATIENCE, sent).await;
        match answer.unwrap_or_else(|_| Err(too_slow())) {
            Ok(wrote) => {
                *kept = Some(writer);
                if wrote {
                    Ok(())
                } else {
                    Err(StoreError::Conflict)
                }
            }
            // The connection is dropped with whatever it still does: an error may leave it anywhere.
            Err(error) => Err(Trouble { sent: true, error }.writing(operation)),
        }
    }

    async fn forget_erased(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn wait(&self) {
        let mut heard = self.heard.subscribe();
        tokio::select! {
            _ = heard.changed() => {}
            Ok(()) = self.listen() => { self.heard.send_replace(()); }
            () = tokio::time::sleep(A_WHILE) => {}
        }
    }
}

/// The entries of a batch, column by column, for UNNEST.
#[derive(Default)]
struct Columns {
    seq: Vec<i64>,
    bytes: Vec<Vec<u8>>,
    leaf: Vec<Vec<u8>>,
    signature: Vec<Option<String>>,
    kind: Vec<String>,
    time: Vec<i64>,
    request: Vec<Option<Vec<u8>>>,
    lease: Vec<Option<Vec<u8>>>,
    agent: Vec<Option<String>>,
    action: Vec<Option<String>>,
    actor: Vec<String>,
    outcome: Vec<Option<String>>,
    key: Vec<Option<Vec<u8>>>,
}

impl Columns {
    fn push(&mut self, entry: super::StoredEntry) {
        let index = entry.index;
        self.seq.push(to_sql(entry.seq));
        self.bytes.push(pack(entry.bytes));
        self.leaf.push(entry.leaf.0.to_vec());
        self.signature.push(entry.signature);
        self.kind.push(index.kind);
        self.time.push(index.time.millis());
        let (request, lease) = (index.request, index.lease);
        self.request.push(request.map(|id| id_bytes(id.number())));
        self.lease.push(lease.map(|id| id_bytes(id.number())));
        self.agent.push(index.agent);
        self.action.push(index.action);
        self.actor.push(index.actor);
        self.outcome.push(index.outcome);
        self.key.push(index.key.map(|key| key.0.to_vec()));
    }
}

fn options(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    let malformed = |_| {
        StoreError::Refused(
            "the text in store.url_file is no PostgreSQL URL; write postgres://USER:PASSWORD@HOST/DATABASE".into(),
        )
    };
    let parsed = url::Url::parse(url.expose_secret().trim()).map_err(|_| malformed(()))?;
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return Err(malformed(()));
    }
    for (key, _) in parsed.query_pairs() {
        if !URL_KEYS.contains(&*key) {
            return Err(StoreError::Refused(format!(
                "the URL in store.url_file has the parameter {key:?}, which is not supported; remove it"
            )));
        }
    }
    let options = PgConnectOptions::from_url(&parsed).map_err(|_| malformed(()))?;
    let local = options.get_socket().is_some() || is_this_machine(options.get_host());
    if !local && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
        return Err(StoreError::Refused(format!(
            "the URL in store.url_file would reach {} without checking who answers; \
             add sslmode=verify-full to it (and sslrootcert=FILE for an authority of your own)",
            options.get_host()
        )));
    }
    Ok(options
        .application_name("countersign")
        // pg_temp last, or a temporary table could stand in for ours.
        .options([("search_path", "countersign_store,pg_temp")])
        .disable_statement_logging())
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.starts_with('/')
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    on_connect(&mut connection).await?;
    Ok(connection)
}

/// Commits wait for the disk even where the server's default is that they do not. A stronger setting
/// (`remote_apply`) stays.
async fn on_connect(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(WAIT_FOR_DISK).execute(connection).await?;
    Ok(())
}

async fn is_standby(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let (standby,): (bool,) = sqlx::query_as(IS_STANDBY).fetch_one(connection).await?;
    Ok(standby)
}

/// Asks first: creating needs a right on the database that a role with a schema made for it lacks.
async fn create_schema(connection: &mut PgConnection) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| StoreError::Failed {
        operation: "create the schema countersign_store; run as a database owner: \
             CREATE SCHEMA countersign_store AUTHORIZATION the-role-in-store.url_file",
        source: error.into(),
    };
    let (exists,): (bool,) = sqlx::query_as(SCHEMA_EXISTS)
        .bind(SCHEMA)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if exists {
        return Ok(());
    }
    match sqlx::query(CREATE_SCHEMA).execute(connection).await {
        // "if not exists" does not cover another broker that creates it at this instant.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(()),
        created => created.map(drop).map_err(failed),
    }
}

fn migrator() -> Migrator {
    Migrator::with_migrations(vec![Migration::new(
        1,
        "ledger".into(),
        MigrationType::Simple,
        include_str!("../../migrations/postgres/0001_ledger.sql").into_sql_str(),
        false,
    )])
}
