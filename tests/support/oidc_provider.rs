//! A certified OpenID provider as a child process.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// A running provider; ends with the value.
pub struct OidcProvider {
    pub issuer: String,
    child: Mutex<Child>,
}

impl OidcProvider {
    /// Starts one whose clients return to `redirect_uri`.
    pub async fn start(redirect_uri: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests learn of their servers this way")]
        let directory = std::env::var("COUNTERSIGN_TEST_OIDC_PROVIDER").expect(
            "COUNTERSIGN_TEST_OIDC_PROVIDER is not set: run scripts/test, which installs the provider tests need \
             (or `npm ci` in tests/support/oidc-provider and name that directory)",
        );
        let mut child = Command::new("node")
            .args(["server.mjs", redirect_uri])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node is not installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let issuer = lines.next_line().await.unwrap();
        let issuer = issuer.expect("the provider did not start: run `npm ci` in its directory");
        Self {
            issuer,
            child: Mutex::new(child),
        }
    }

    /// Replaces all its signing keys.
    pub async fn rotate_keys(&self) {
        let url = format!("{}/-/rotate", self.issuer);
        let answer = reqwest::Client::new().post(url).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// Ends it now.
    pub async fn stop(&self) {
        self.child.lock().await.kill().await.unwrap();
    }
}
