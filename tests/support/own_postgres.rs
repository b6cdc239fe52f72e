//! PostgreSQL servers a test starts for itself: to be filled up, copied, promoted and stopped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{Connection, PgConnection, Row};

use super::PostgresServer;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A server of the same build as one that `scripts/test` started. It stops when it is dropped.
pub struct OwnPostgres {
    pub server: PostgresServer,
    directory: PathBuf,
}

fn script(arguments: &[&str], settings: &str) -> String {
    let output = Command::new("scripts/support/postgres.sh")
        .args(arguments)
        .env("COUNTERSIGN_POSTGRES_CONF", settings)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn directory() -> PathBuf {
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    std::env::temp_dir().join(format!(
        "countersign-postgres-{}-{number}",
        std::process::id()
    ))
}

impl OwnPostgres {
    /// One like `model`, with lines for its `postgresql.conf`.
    pub async fn start(model: &PostgresServer, settings: &str) -> Self {
        let mut admin = PgConnection::connect(model.url.as_str()).await.unwrap();
        let row = sqlx::query("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
            .fetch_one(&mut admin)
            .await
            .unwrap();
        let programs = PathBuf::from(row.get::<String, _>(0));
        let directory = directory();
        let url = script(
            &["start", path(&directory), path(&programs)],
            &format!("fsync = off\n{settings}"),
        );
        Self {
            server: PostgresServer {
                version: model.version,
                url: url.parse().unwrap(),
            },
            directory,
        }
    }

    /// A copy of it that follows it and can only be read, until it is promoted.
    pub fn standby(&self) -> Self {
        Self::follow(&self.directory, self.server.version)
    }

    /// The same for the server that `scripts/support/postgres.sh` keeps in `primary`, which is stopped for a moment.
    pub fn follow(primary: &Path, version: u32) -> Self {
        let directory = directory();
        let url = script(&["follow", path(&directory), path(primary)], "");
        Self {
            server: PostgresServer {
                version,
                url: url.parse().unwrap(),
            },
            directory,
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        script(&["stop", path(&self.directory)], "");
        // Files of the server's own user may stay when the test is not root; the directory is a temporary one.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
