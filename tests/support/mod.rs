//! What several subjects share: the real servers, an injected clock, seeded randomness.

pub mod aws;
pub mod house;
pub mod oidc_provider;
pub mod oracle;
pub mod own_postgres;
pub mod rules;
pub mod target;
pub mod wire;

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use countersign::domain::{Seconds, Time};
use countersign::system::{Clock, Entropy};
use url::Url;

/// A PostgreSQL server that `scripts/test` started for the tests.
#[derive(Clone, Debug)]
pub struct PostgresServer {
    /// Major version.
    pub version: u32,
    /// Superuser URL of its `postgres` database.
    pub url: Url,
}

/// All PostgreSQL servers, oldest first, from `COUNTERSIGN_TEST_POSTGRES="15=postgres://…;18=postgres://…"`.
/// Never empty: without servers the tests fail and say how to start them.
pub fn postgres_servers() -> Vec<PostgresServer> {
    #[expect(clippy::disallowed_methods, reason = "tests learn of their servers this way")]
    let list = std::env::var("COUNTERSIGN_TEST_POSTGRES").expect(
        "COUNTERSIGN_TEST_POSTGRES is not set: run scripts/test, which starts the servers tests need",
    );
    let mut servers: Vec<_> = list
        .split(';')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (version, url) = part.split_once('=').expect("VERSION=URL");
            PostgresServer {
                version: version.parse().unwrap(),
                url: url.parse().unwrap(),
            }
        })
        .collect();
    servers.sort_by_key(|server| server.version);
    assert!(
        !servers.is_empty(),
        "COUNTERSIGN_TEST_POSTGRES names no server"
    );
    servers
}

/// The MariaDB server that `scripts/test` started for the tests: its administrator's URL.
pub fn mariadb_server() -> Url {
    #[expect(clippy::disallowed_methods, reason = "tests learn of their servers this way")]
    let url = std::env::var("COUNTERSIGN_TEST_MARIADB").expect(
        "COUNTERSIGN_TEST_MARIADB is not set: run scripts/test, which starts the servers tests need",
    );
    url.parse().unwrap()
}

/// Where `python`, with boto3, and `aws` are, from `COUNTERSIGN_TEST_AWS_CLIENTS`.
/// Without it the tests fail and say how to get it.
pub fn aws_clients() -> std::path::PathBuf {
    #[expect(clippy::disallowed_methods, reason = "tests learn of their programs this way")]
    let place = std::env::var("COUNTERSIGN_TEST_AWS_CLIENTS").expect(
        "COUNTERSIGN_TEST_AWS_CLIENTS is not set: run scripts/test, which installs the programs tests need",
    );
    let place = std::path::PathBuf::from(place);
    for program in ["python", "aws"] {
        assert!(
            place.join(program).exists(),
            "COUNTERSIGN_TEST_AWS_CLIENTS has no {program}"
        );
    }
    place
}

/// Clients of databases that `scripts/test` installed.
pub struct DatabaseClients {
    /// Python, with the newest drivers.
    pub python: std::path::PathBuf,
    /// Where Go has compiled the drivers of Debian's packages.
    pub go_cache: String,
    /// Where Node and Debian's programs are.
    pub path: String,
}

/// From `COUNTERSIGN_TEST_DATABASE_CLIENTS` and `COUNTERSIGN_TEST_GO_CACHE`. Without them the tests fail and say how to get them.
pub fn database_clients() -> DatabaseClients {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests learn of their programs this way"
    )]
    let variable = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| {
            panic!("{name} is not set: run scripts/test, which installs the programs tests need")
        })
    };
    DatabaseClients {
        python: std::path::Path::new(&variable("COUNTERSIGN_TEST_DATABASE_CLIENTS")).join("python"),
        go_cache: variable("COUNTERSIGN_TEST_GO_CACHE"),
        path: variable("PATH"),
    }
}

/// What makes `server.key` and `server.crt`, for `localhost`, where it is run by a shell.
pub const CERTIFICATE_FOR_LOCALHOST: &str = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
     -keyout server.key -out server.crt -subj /CN=localhost \
     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE 2>/dev/null \
     && chmod 600 server.key";

/// A clock that stands still until it is told.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    /// How far it is ahead of everybody else's.
    ahead: AtomicI64,
}

impl ManualClock {
    /// Stands at `start`.
    pub fn at(start: Time) -> Self {
        Self {
            now: AtomicI64::new(start.millis()),
            ahead: AtomicI64::new(0),
        }
    }

    /// Moves forward.
    pub fn advance(&self, by: Seconds) {
        self.now
            .fetch_add(i64::try_from(by.0).unwrap() * 1000, Ordering::SeqCst);
    }

    /// Jumps ahead of everybody else's, as when the ledger turns out to be.
    pub fn put_ahead(&self, by: Seconds) {
        self.advance(by);
        self.ahead
            .fetch_add(i64::try_from(by.0).unwrap() * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_millis(self.now.load(Ordering::SeqCst))
    }

    fn utc(&self) -> Time {
        let ahead = self.ahead.load(Ordering::SeqCst);
        Time::from_millis(self.now().millis() - ahead)
    }
}

/// Reproducible randomness (SplitMix64).
#[derive(Debug)]
pub struct SeededEntropy(Mutex<u64>);

impl SeededEntropy {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = *state;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^= word >> 31;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
}
