//! Access really ends: when the agent is done, when time is over, when somebody says so.

use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::broker::{Broker, id};
use super::cli::{countersign, run};
use super::place::{Place, column, try_sql};
use super::{REPORTER, until, within};

async fn works(session: &mut PgConnection) -> bool {
    column(session, "SELECT 1::text").await.is_ok()
}

#[tokio::test]
async fn l04_after_finish_an_open_session_is_dead_and_login_is_refused() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let (request, credential) = broker.live(60).await;
    let mut idle = place.log_in(&credential).await.unwrap();
    let mut busy = place.log_in(&credential).await.unwrap();
    assert!(works(&mut idle).await);
    let sleeps = column(
        &mut busy,
        "SET statement_timeout = 0; SELECT pg_sleep(600)::text",
    );
    let (slept, closed) = tokio::join!(sleeps, broker.finish(REPORTER, &request));
    assert_eq!(closed["state"], "closed", "{closed}");
    assert!(slept.is_err(), "a running statement went on");
    assert!(!works(&mut idle).await, "an open session went on");
    let refused = place.log_in(&credential).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("password authentication failed"),
        "{refused}"
    );
    assert_eq!(place.credentials().await, Vec::<String>::new());
}

#[tokio::test]
async fn l04_at_the_end_of_its_time_a_lease_ends_by_itself() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let (request, credential) = broker.live(3).await;
    let mut session = place.log_in(&credential).await.unwrap();
    assert!(works(&mut session).await);
    let outcome = broker
        .closed(Duration::from_secs(15), REPORTER, &request)
        .await;
    assert_eq!(outcome, "expired");
    assert!(!works(&mut session).await, "an open session went on");
    assert!(place.log_in(&credential).await.is_err());
    assert_eq!(place.credentials().await, Vec::<String>::new());
}

#[tokio::test]
async fn l04_a_revocation_ends_a_command_that_runs() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let look = "psql -Atqc 'SELECT current_user'; exec sleep 600";
    let arguments = [
        "exec",
        "orders.report",
        "--reason",
        "nightly",
        "--poll",
        "1s",
        "--",
        "sh",
        "-c",
        look,
    ];
    let mut command = countersign(&broker.base, REPORTER, &arguments)
        .spawn()
        .unwrap();
    let mut out = BufReader::new(command.stdout.take().unwrap());
    let mut user = String::new();
    let said = tokio::time::timeout(Duration::from_secs(30), out.read_line(&mut user));
    said.await.expect("the command never started").unwrap();
    let operator = place.operator();
    let leases = broker.get("/v1/leases", &operator).await.body;
    let lease = id(&leases["data"][0]).to_owned();
    assert_eq!(place.credentials().await, [user.trim()]);

    let revoked = run(countersign(&broker.base, &operator, &["revoke", &lease]))
        .await
        .fine();
    assert!(
        revoked
            .err
            .contains("access has ended, proven at the target (revoked)"),
        "{revoked:?}"
    );
    let ended = tokio::time::timeout(Duration::from_secs(30), command.wait()).await;
    let status = ended.expect("the command goes on").unwrap();
    assert_eq!(status.code(), Some(143));
    let mut said = String::new();
    let mut err = command.stderr.take().unwrap();
    err.read_to_string(&mut said).await.unwrap();
    assert!(
        said.contains("access was ended early (revoked); ending the command"),
        "{said}"
    );
    assert_eq!(place.credentials().await, Vec::<String>::new());
}

#[tokio::test]
async fn l04_an_agent_killed_with_its_credential_loses_it_at_its_time() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let arguments = [
        "exec",
        "orders.report",
        "--reason",
        "nightly",
        "--ttl",
        "4s",
        "--",
        "sleep",
        "600",
    ];
    let mut command = countersign(&broker.base, REPORTER, &arguments)
        .spawn()
        .unwrap();
    until("the credential exists", async || {
        (!place.credentials().await.is_empty()).then_some(())
    })
    .await;
    command.kill().await.unwrap();
    until("the credential is gone", async || {
        place.credentials().await.is_empty().then_some(())
    })
    .await;
    // The entry follows what was seen.
    let outcome = until("the request is closed", async || {
        let closed = broker.get("/v1/requests?state=closed", REPORTER).await.body;
        closed["data"]
            .get(0)
            .map(|request| request["outcome"].clone())
    })
    .await;
    assert_eq!(outcome, "expired");
}

#[tokio::test]
async fn sigterm_stops_cleanly_and_a_restart_goes_on() {
    let place = Place::open().await;
    let mut broker = Broker::dev(&place).await;
    let (short, _) = broker.live(2).await;
    let (long, credential) = broker.live(60).await;
    let pending = json!({"action": "customers.export", "parameters": {"country": "es"}});
    let pending = broker.ask(REPORTER, &pending).await;
    let status = broker.stop().await;
    assert!(status.success(), "{status}");
    // A lease that is not over survives the restart; one that ran out meanwhile is ended by it.
    broker.start_again().await;
    let outcome = broker
        .closed(Duration::from_secs(20), REPORTER, &short)
        .await;
    assert_eq!(outcome, "expired");
    assert_eq!(broker.request(REPORTER, &long).await["state"], "live");
    assert_eq!(broker.request(REPORTER, &pending).await["state"], "pending");
    let mut session = place.log_in(&credential).await.unwrap();
    assert!(works(&mut session).await);
    broker.finish(REPORTER, &long).await;
    assert!(!works(&mut session).await);
}

/// L10: one command ends them all, and the ledger says so of each as soon as it is known.
#[tokio::test]
async fn finding_t11_who_fights_keeps_no_other_end_out_of_the_ledger() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let (_, fighter) = broker.live(600).await;
    for _ in 0..7 {
        broker.live(600).await;
    }
    let mut holder = place.superuser("shop").await;
    let role = fighter["user"].as_str().unwrap();
    let hold = format!("BEGIN; ALTER ROLE {role} CONNECTION LIMIT 9");
    try_sql(&mut holder, &hold).await.unwrap();
    let operator = place.operator();
    let answer = broker
        .post("/v1/agents/reporter/disable", &operator, &json!({}))
        .await;
    assert!(answer.status.is_success(), "{answer:?}");
    let place_of = |ledger: &[String], kind: &str| {
        let kind = format!("\"{kind}\"");
        ledger.iter().position(|entry| entry.contains(&kind))
    };
    let ledger = within(Duration::from_secs(60), "its end fails", async || {
        let ledger = broker.ledger(&operator).await;
        place_of(&ledger, "lease.end_failed").map(|_| ledger)
    })
    .await;
    let ended = |entry: &&String| entry.contains("\"lease.ended\"");
    assert_eq!(ledger.iter().filter(ended).count(), 7);
    // The one that fights is the oldest: of ends that are told together its own would come first.
    let failed = place_of(&ledger, "lease.end_failed");
    assert!(place_of(&ledger, "lease.ended") < failed);
    try_sql(&mut holder, "ROLLBACK").await.unwrap();
    until("it ends too", async || {
        place.credentials().await.is_empty().then_some(())
    })
    .await;
}
