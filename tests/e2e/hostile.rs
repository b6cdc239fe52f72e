//! The hostile agent: with nothing but its lease it does all it can to stay, against the real broker on every server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::broker::{Broker, id};
use super::place::{Place, column, try_sql};
use super::{REPORTER, within};

/// How long the agent may hold out, on a machine that is busy with other tests.
const AT_MOST: Duration = Duration::from_secs(20);
/// Programs that log in again and again.
const STORM: usize = 4;

/// An agent that has dug in.
struct Agent {
    /// Holds every lock the server has room for, and reads on.
    flood: PgConnection,
    /// Holds its own row in the catalog of roles.
    holder: PgConnection,
    storm: JoinSet<()>,
    /// When a login last worked.
    last_login: Arc<Mutex<Option<Instant>>>,
    over: Arc<AtomicBool>,
}

impl Agent {
    async fn dig_in(place: &Arc<Place>, credential: &Value) -> Self {
        let mut holder = place.log_in(credential).await.unwrap();
        let hold = "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'of-my-own'";
        try_sql(&mut holder, hold).await.unwrap();
        let mut flood = place.log_in(credential).await.unwrap();
        try_sql(&mut flood, "BEGIN").await.unwrap();
        assert!(reads(&mut flood).await);
        try_sql(&mut flood, "SAVEPOINT held").await.unwrap();
        let locks = "SELECT count(pg_advisory_lock(n))::text FROM generate_series(1, 10000000) n";
        let full = column(&mut flood, locks).await.unwrap_err();
        assert!(full.to_string().contains("out of shared memory"), "{full}");
        let back = "ROLLBACK TO SAVEPOINT held";
        try_sql(&mut flood, back).await.unwrap();
        assert!(reads(&mut flood).await, "it reads on");
        let (last_login, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut storm = JoinSet::new();
        for _ in 0..STORM {
            storm.spawn(log_in_for_ever(
                Arc::clone(place),
                credential.clone(),
                Arc::clone(&last_login),
                Arc::clone(&over),
            ));
        }
        Self {
            flood,
            holder,
            storm,
            last_login,
            over,
        }
    }

    /// Whether a session of before is alive, or a login worked after `end`.
    async fn holds_out(mut self, end: Instant) -> Vec<&'static str> {
        let mut found = Vec::new();
        if reads(&mut self.flood).await {
            found.push("the session that filled the lock table reads on");
        }
        if try_sql(&mut self.holder, "COMMIT").await.is_ok() {
            found.push("the session that held its own row goes on");
        }
        self.over.store(true, Ordering::SeqCst);
        self.storm.join_all().await;
        if self.last_login.lock().await.is_some_and(|last| last > end) {
            found.push("a login worked after the end");
        }
        found
    }
}

async fn reads(session: &mut PgConnection) -> bool {
    let rows = column(session, "SELECT count(*)::text FROM shop.orders").await;
    rows.is_ok()
}

async fn log_in_for_ever(
    place: Arc<Place>,
    credential: Value,
    last_login: Arc<Mutex<Option<Instant>>>,
    over: Arc<AtomicBool>,
) {
    while !over.load(Ordering::SeqCst) {
        if let Ok(mut session) = place.log_in(&credential).await
            && reads(&mut session).await
        {
            *last_login.lock().await = Some(Instant::now());
        }
        tokio::task::yield_now().await;
    }
}

/// What it tries against the broker and its own bounds; gives what the server let it do.
async fn overreach(place: &Place, credential: &Value) -> Vec<&'static str> {
    let mut session = place.log_in(credential).await.unwrap();
    let tries = [
        (
            "killed a session of the broker",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'countersign_broker'",
        ),
        (
            "has another name",
            "DO $$ BEGIN EXECUTE format('ALTER ROLE %I RENAME TO jit_free', current_user); END $$",
        ),
        (
            "lives for ever",
            "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity' CONNECTION LIMIT -1",
        ),
        ("made a role", "CREATE ROLE friend LOGIN PASSWORD 'x'"),
        (
            "gave its rights away",
            "GRANT countersign_orders_ro TO PUBLIC",
        ),
        ("made a table", "CREATE TABLE public.mine (a int)"),
        (
            "made a function",
            "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        ),
        (
            "made a temporary table",
            "CREATE TEMPORARY TABLE mine (a int)",
        ),
        (
            "prepared a transaction",
            "BEGIN; SELECT 1; PREPARE TRANSACTION 'mine'",
        ),
        (
            "reads the broker's records",
            "SELECT * FROM countersign.lease",
        ),
        (
            "reads other leases' rows",
            "SELECT 1 / count(*) FROM countersign.lease_scope WHERE role_name <> SESSION_USER",
        ),
        (
            "mints",
            "SELECT countersign.as_minter_000('CREATE ROLE friend')",
        ),
        (
            "ends others",
            "SELECT countersign.lease_kill(ARRAY['jit_x'], 'x')",
        ),
        (
            "locks the catalog",
            "LOCK TABLE pg_catalog.pg_authid, pg_catalog.pg_database IN ACCESS EXCLUSIVE MODE",
        ),
    ];
    let mut done = Vec::new();
    for (what, sql) in tries {
        if try_sql(&mut session, sql).await.is_ok() {
            done.push(what);
        }
        let _ = try_sql(&mut session, "ROLLBACK").await;
    }
    done
}

/// The whole fight on the server of one major version.
async fn fight(version: u32) {
    let place = Arc::new(Place::open_on(version).await);
    let broker = Broker::dev(&place).await;
    let (_, credential) = broker.live(600).await;
    assert_eq!(overreach(&place, &credential).await, Vec::<&str>::new());
    let agent = Agent::dig_in(&place, &credential).await;
    let operator = place.operator();
    let leases = broker.get("/v1/leases", &operator).await.body;
    let lease = id(&leases["data"][0]).to_owned();
    let revoked = broker
        .post(&format!("/v1/leases/{lease}/revoke"), &operator, &json!({}))
        .await;
    assert!(revoked.status.is_success(), "{revoked:?}");
    within(AT_MOST, "the lease ends", async || {
        let lease = broker.get(&format!("/v1/leases/{lease}"), &operator).await;
        (lease.body["state"] == "ended").then_some(())
    })
    .await;
    let end = Instant::now();
    assert_eq!(place.credentials().await, Vec::<String>::new());
    // What is left of the storm gets its chance.
    assert!(place.log_in(&credential).await.is_err());
    assert_eq!(agent.holds_out(end).await, Vec::<&str>::new());
    // The server serves others as before.
    let (request, _) = broker.live(60).await;
    assert_eq!(broker.finish(REPORTER, &request).await["state"], "closed");
}

macro_rules! fights {
    ($($name:ident $version:literal),*) => {
        $(
            #[tokio::test]
            async fn $name() {
                fight($version).await;
            }
        )*
    };
}

fights!(
    finding_t01_a_hostile_agent_is_out_on_15 15,
    finding_t01_a_hostile_agent_is_out_on_16 16,
    finding_t01_a_hostile_agent_is_out_on_17 17,
    finding_t01_a_hostile_agent_is_out_on_18 18
);
