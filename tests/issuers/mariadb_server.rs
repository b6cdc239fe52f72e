//! A MariaDB server of a test's own, from the same binaries as the shared one.

use std::process::Output;

use tempfile::TempDir;
use tokio::process::Command;
use url::Url;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/support/mariadb.sh");

/// Stopped when dropped.
pub struct OwnServer {
    dir: TempDir,
    /// Its administrator.
    pub url: Url,
}

impl OwnServer {
    /// Starts one with these options of `mariadbd`.
    pub async fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(SCRIPT);
        command.arg("start").arg(dir.path()).args(options);
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().await.unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let url = String::from_utf8(stdout).unwrap();
        let url = url.trim().parse().unwrap();
        Self { dir, url }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(SCRIPT);
        let stopped = command.arg("stop").arg(self.dir.path()).status();
        assert!(stopped.is_ok_and(|status| status.success()));
    }
}
