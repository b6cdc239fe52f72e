//! The connection that kills: it works when nothing else does.
//!
//! A session can fill the server's lock table, and then every statement that needs a lock fails, new logins too. So one
//! connection is kept in an open transaction that has run the killing function once and holds all the locks it needs. It
//! holds no snapshot between statements (READ COMMITTED), so nothing at the target waits for it. It is renewed every few
//! minutes, the next one before the old one is closed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::links::{Door, Trouble, send};
use super::sql::Sql;

const RENEWED: Duration = Duration::from_secs(180);

struct Open {
    connection: PgConnection,
    since: Instant,
}

/// The connection of one target that is kept for killing.
pub struct Pinned {
    door: Arc<Door>,
    database: String,
    /// The functions that kill, called for nobody.
    rehearsal: Sql,
    open: Mutex<Option<Open>>,
}

impl Pinned {
    /// Opens nothing yet. `rehearsal` runs the functions that kill for nobody.
    pub fn new(door: Arc<Door>, database: &str, rehearsal: Sql) -> Self {
        Self {
            door,
            database: database.to_owned(),
            rehearsal,
            open: Mutex::default(),
        }
    }

    async fn open(&self) -> Result<Open, Trouble> {
        let mut connection = self.door.open(&self.database).await?;
        // A time limit on whole transactions is known to newer servers only.
        let begin = Sql::new(
            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
             WHERE name OPERATOR(pg_catalog.=) 'transaction_timeout'; BEGIN; ",
        )
        .then(&self.rehearsal);
        send(&mut connection, &begin).await?;
        Ok(Open {
            connection,
            since: Instant::now(),
        })
    }

    /// Opens it if it is not open or does not answer, and renews it when it is old.
    pub async fn keep(&self) {
        if let Some(kept) = self.open.lock().await.as_mut()
            && kept.since.elapsed() < RENEWED
            && send(&mut kept.connection, &self.rehearsal).await.is_ok()
        {
            return;
        }
        if let Ok(next) = self.open().await {
            self.open.lock().await.replace(next);
        }
    }

    /// Sends a call of a function that kills: over the open transaction, or over a new one when that one is no more.
    pub async fn kill(&self, sql: &Sql) -> Result<(), Trouble> {
        let mut open = self.open.lock().await;
        if let Some(kept) = open.as_mut()
            && send(&mut kept.connection, sql).await.is_ok()
        {
            return Ok(());
        }
        // After an error its transaction holds no locks.
        *open = None;
        let mut next = self.open().await?;
        send(&mut next.connection, sql).await?;
        *open = Some(next);
        Ok(())
    }
}
