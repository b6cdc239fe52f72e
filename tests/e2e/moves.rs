//! The world moves: a standby, a failover, another server, a second broker, a pooler, a DBA, against the real broker.
//! What is said to have ended has ended, and what comes back is found.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::broker::{Answer, Broker, id};
use super::cli::{Ran, countersign, local, run};
use super::person::Person;
use super::place::{Place, column, copy, free_ports, next_number, try_sql};
use super::{REPORTER, until, within};
use crate::support::own_postgres::OwnPostgres;
use crate::support::wire::Relay;

/// The pauses between attempts to end something grow; then the machine may be busy.
const NEXT_ATTEMPT: Duration = Duration::from_secs(60);

/// The same credential at the server behind `port`, whatever the address leads to.
fn at(credential: &Value, port: u16) -> Value {
    let mut there = credential.clone();
    there["port"] = port.into();
    there
}

fn user(credential: &Value) -> &str {
    credential["user"].as_str().unwrap()
}

async fn works(session: &mut PgConnection) -> bool {
    column(session, "SELECT 1::text").await.is_ok()
}

/// Waits until the broker has written down this kind of entry with these words.
async fn recorded(broker: &Broker, operator: &str, kind: &str, words: &[&str]) {
    let kind = format!("\"kind\":\"{kind}\"");
    within(
        NEXT_ATTEMPT,
        &format!("{kind} with {words:?}"),
        async || {
            let ledger = broker.ledger(operator).await;
            let says = |entry: &String| {
                entry.contains(&kind) && words.iter().all(|word| entry.contains(word))
            };
            ledger.iter().any(says).then_some(())
        },
    )
    .await;
}

/// Says that the agent is done, and waits for nothing.
async fn done(broker: &Broker, request: &Value) {
    let path = format!("/v1/requests/{}/finish", id(request));
    let report = json!({"outcome": "succeeded"});
    let answer = broker.post(&path, REPORTER, &report).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

/// An export that a person has approved.
async fn approved(broker: &Broker) -> Value {
    let body = json!({"action": "customers.export", "parameters": {"country": "de"}});
    let export = broker.ask(REPORTER, &body).await;
    let mut ben = Person::sign_in(&broker.base, "dev", "ben").await;
    ben.approve(&export).await;
    export
}

fn assert_changed(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), &answer.body["code"]),
        (503, &json!("target_changed")),
        "{answer:?}"
    );
}

/// What `countersign target list` says of the shop.
async fn standing(broker: &Broker, operator: &str) -> Value {
    let list = ["target", "list", "--json"];
    run(countersign(&broker.base, operator, &list))
        .await
        .fine()
        .json()
}

/// A superuser's session at a standby.
async fn superuser_at(standby: &OwnPostgres) -> PgConnection {
    PgConnection::connect(standby.server.url.as_str())
        .await
        .unwrap()
}

/// From now on the standby learns nothing more from its primary, once it knows `handle`.
async fn fall_behind(standby: &mut PgConnection, handle: &str) {
    let known = format!("SELECT rolname::text FROM pg_roles WHERE rolname = '{handle}'");
    until("the standby knows the role", async || {
        column(standby, &known).await.unwrap().pop()
    })
    .await;
    for sql in [
        "ALTER SYSTEM SET primary_conninfo = ''",
        "SELECT pg_reload_conf()",
    ] {
        try_sql(standby, sql).await.unwrap();
    }
    let follows = "SELECT status FROM pg_stat_wal_receiver";
    until("the standby follows nobody", async || {
        column(standby, follows)
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
}

/// One failover: a standby that lags stands in for its primary, then takes its place.
struct Failover {
    broker: Broker,
    place: Place,
    operator: String,
    relay: Relay,
    primary: u16,
    standby: OwnPostgres,
}

impl Failover {
    async fn prepare(version: u32) -> Self {
        let place = Place::open_on(version).await;
        let standby = place.standby(version);
        let primary = place.superuser.port().unwrap();
        let relay = Relay::to(primary).await;
        place.point_at(relay.port);
        let broker = Broker::dev(&place).await;
        Self {
            operator: place.operator(),
            place,
            broker,
            relay,
            primary,
            standby,
        }
    }

    fn standby_port(&self) -> u16 {
        self.standby.server.url.port().unwrap()
    }

    /// A lease whose role the standby has never heard of.
    async fn unknown_to_the_standby(&self) -> (Value, Value, PgConnection) {
        let (request, credential) = self.broker.live(600).await;
        let session = self.place.log_in(&at(&credential, self.primary)).await;
        (request, credential, session.unwrap())
    }

    /// That a role is unknown at a standby proves nothing.
    async fn the_standby_proves_nothing(&self) {
        let (request, _, mut session) = self.unknown_to_the_standby().await;
        self.relay.lead_to(self.standby_port());
        done(&self.broker, &request).await;
        let words = ["shop", "read_only_target"];
        recorded(&self.broker, &self.operator, "target.away", &words).await;
        assert_eq!(
            self.broker.request(REPORTER, &request).await["state"],
            "ending"
        );
        assert!(works(&mut session).await, "the primary was not touched");
        self.relay.lead_to(self.primary);
        let outcome = self.broker.closed(NEXT_ATTEMPT, REPORTER, &request).await;
        assert_eq!(outcome, "completed");
        assert!(!works(&mut session).await, "it is called ended and goes on");
        recorded(&self.broker, &self.operator, "target.back", &["shop"]).await;
    }

    /// The address leads to the standby, and that is a primary now.
    async fn fail_over(&self, standby: &mut PgConnection) {
        self.relay.lead_to(self.standby_port());
        try_sql(standby, "SELECT pg_promote()").await.unwrap();
        until("it is promoted", async || {
            let recovers = column(standby, "SELECT pg_is_in_recovery()::text").await;
            (recovers.unwrap() == ["false"]).then_some(())
        })
        .await;
    }

    /// What the ledger stands for, and what answers.
    async fn both_are_named(&self) -> (String, String) {
        let shop = standing(&self.broker, &self.operator).await;
        assert_eq!(shop["in_order"], json!(false), "{shop}");
        let server = |name: &str| shop[name].as_str().unwrap_or_default().to_owned();
        let (from, to) = (server("server"), server("seen"));
        assert!(
            from.ends_with(" timeline 1") && to.ends_with(" timeline 2"),
            "{shop}"
        );
        (from, to)
    }

    async fn try_to_move(&self, from: &str, to: &str) -> Ran {
        let words = ["target", "move", "shop", "--from", from, "--to", to];
        let words = [&words[..], &["--reason", "failover, CHG-88"]].concat();
        run(countersign(&self.broker.base, &self.operator, &words)).await
    }

    async fn move_target(&self, from: &str, to: &str) {
        let slip = self.try_to_move(from, "postgresql 1 timeline 9").await;
        assert!(slip.err.contains("answers as"), "{slip:?}");
        self.try_to_move(from, to).await.fine();
    }
}

async fn a_failover(version: u32) {
    let mut scene = Failover::prepare(version).await;
    let mut standby = superuser_at(&scene.standby).await;
    let export = approved(&scene.broker).await;
    let (early, back) = scene.broker.live(600).await;
    let (known, credential) = scene.broker.live(600).await;
    fall_behind(&mut standby, user(&credential)).await;
    // Ended and proven, which the standby will not know.
    scene.broker.finish(REPORTER, &early).await;
    let back = at(&back, scene.standby_port());
    assert!(scene.place.log_in(&back).await.is_ok());
    let (lost, _, mut at_the_primary) = scene.unknown_to_the_standby().await;
    scene.the_standby_proves_nothing().await;

    let there = at(&credential, scene.standby_port());
    let mut at_the_standby = scene.place.log_in(&there).await.unwrap();
    scene.fail_over(&mut standby).await;
    for request in [&known, &lost] {
        done(&scene.broker, request).await;
        let words = [id(request), "target_changed"];
        recorded(&scene.broker, &scene.operator, "lease.end_failed", &words).await;
        assert_eq!(
            scene.broker.request(REPORTER, request).await["state"],
            "ending"
        );
    }
    // What is known of the lease is cut off; what is not known to be over is not called over.
    assert!(!works(&mut at_the_standby).await, "a session goes on");
    assert!(scene.place.log_in(&there).await.is_err(), "a login works");
    assert!(works(&mut at_the_primary).await, "that was the premise");

    assert!(scene.broker.stop().await.success());
    scene.broker.start_again().await;
    let (from, to) = scene.both_are_named().await;
    assert_changed(&scene.broker.collect(REPORTER, &export).await);
    scene.place.stop_server();
    scene.move_target(&from, &to).await;
    for request in [&known, &lost] {
        let outcome = scene.broker.closed(NEXT_ATTEMPT, REPORTER, request).await;
        assert_eq!(outcome, "completed");
    }
    // An approval for the old server is none for the new one.
    let void = scene.broker.collect(REPORTER, &export).await;
    assert!(!void.status.is_success(), "{void:?}");
    assert_eq!(void.body["code"], "target_changed", "{void:?}");
    // As after a restore: what had ended is back, and no lease explains it.
    for kind in ["orphan.found", "orphan.end_claimed", "orphan.ended"] {
        recorded(&scene.broker, &scene.operator, kind, &[user(&back)]).await;
    }
    assert!(scene.place.log_in(&back).await.is_err(), "it is back");
    let left = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'jit\\_%'";
    assert_eq!(
        column(&mut standby, left).await.unwrap(),
        Vec::<String>::new()
    );
    let (request, _) = scene.broker.live(60).await;
    scene.broker.finish(REPORTER, &request).await;
    assert!(scene.broker.stop().await.success());
    local(&["ledger", "verify", "state"], &scene.place.dir)
        .await
        .fine();
}

#[tokio::test]
async fn finding_t03_t14_a_failover_ends_nothing_by_itself_on_15() {
    a_failover(15).await;
}

#[tokio::test]
async fn finding_t03_t14_a_failover_ends_nothing_by_itself_on_18() {
    a_failover(18).await;
}

#[tokio::test]
async fn finding_t14_another_server_behind_the_name_is_left_alone() {
    let (place, other) = tokio::join!(Place::open(), Place::open());
    let mut broker = Broker::dev(&place).await;
    let operator = place.operator();
    let export = approved(&broker).await;
    let (request, credential) = broker.live(600).await;
    let mut session = place.log_in(&credential).await.unwrap();
    // A role of the same name there is none of ours.
    let handle = user(&credential);
    let lookalike = format!("CREATE ROLE {handle} LOGIN PASSWORD 'theirs'");
    other.run_sql("shop", &lookalike).await;

    assert!(broker.stop().await.success());
    place.point_at(other.superuser.port().unwrap());
    broker.start_again().await;
    let shop = standing(&broker, &operator).await;
    assert_eq!(shop["in_order"], json!(false), "{shop}");
    assert_ne!(shop["server"], shop["seen"], "{shop}");
    done(&broker, &request).await;
    let words = [id(&request), "target_changed"];
    recorded(&broker, &operator, "lease.end_failed", &words).await;
    assert_eq!(broker.request(REPORTER, &request).await["state"], "ending");
    assert_changed(&broker.collect(REPORTER, &export).await);
    let routine = broker.ask_for_report(60).await;
    assert_changed(&broker.collect(REPORTER, &routine).await);
    assert!(works(&mut session).await, "nobody could have ended it");
    assert_eq!(other.credentials().await, [handle], "minted or dropped");
    let may_log_in = format!("SELECT rolcanlogin::text FROM pg_roles WHERE rolname = '{handle}'");
    let mut there = other.superuser("shop").await;
    assert_eq!(column(&mut there, &may_log_in).await.unwrap(), ["true"]);

    assert!(broker.stop().await.success());
    place.point_at(place.superuser.port().unwrap());
    broker.start_again().await;
    let outcome = broker.closed(NEXT_ATTEMPT, REPORTER, &request).await;
    assert_eq!(outcome, "completed");
    assert!(!works(&mut session).await, "it is called ended and goes on");
    // The approval was for this server.
    let collected = broker.collect(REPORTER, &export).await;
    assert!(collected.status.is_success(), "{collected:?}");
    broker.finish(REPORTER, &export).await;
}

#[tokio::test]
async fn finding_t04_two_countersigns_on_one_cluster_leave_each_other_alone() {
    let place = Place::open().await;
    let first = Broker::dev(&place).await;
    let (request, credential) = first.live(600).await;
    let mut session = place.log_in(&credential).await.unwrap();
    // The same account at the target, another state directory and so another deployment.
    let dir = place.dir.join("../second/shop");
    copy(&place.dir, &dir);
    fs::remove_dir_all(dir.join("state")).unwrap();
    let port = free_ports(next_number());
    let config = fs::read_to_string(dir.join("countersign.toml")).unwrap();
    let config = config.replace(&place.port.to_string(), &port.to_string());
    fs::write(dir.join("countersign.toml"), config).unwrap();
    let base = format!("http://127.0.0.1:{port}");
    let second = Broker::dev_in(&dir, base, Vec::new()).await;
    until("the second has looked around", async || {
        let log = fs::read_to_string(&second.log).unwrap();
        let mut lines = log.lines();
        lines
            .any(|line| line.contains(user(&credential)) && line.contains("somebody else's"))
            .then_some(())
    })
    .await;
    assert!(works(&mut session).await, "it ended what is not its own");
    let (theirs, credential) = second.live(600).await;
    let mut other = place.log_in(&credential).await.unwrap();
    first.finish(REPORTER, &request).await;
    assert!(!works(&mut session).await);
    assert!(
        works(&mut other).await,
        "the first ended the second's lease"
    );
    assert_eq!(place.credentials().await, [user(&credential)]);
    second.finish(REPORTER, &theirs).await;
    assert_eq!(place.credentials().await, Vec::<String>::new());
    let operator = fs::read_to_string(dir.join("state/operator.token")).unwrap();
    for (broker, operator) in [(&first, &place.operator()), (&second, &operator)] {
        let ledger = broker.ledger(operator).await;
        assert!(!ledger.iter().any(|entry| entry.contains("orphan.")));
    }
}

/// What PgBouncer says at its defaults, to everybody who connects.
async fn pooler_at_its_defaults(listener: TcpListener) {
    let mut error =
        b"SFATAL\0C08P01\0Munsupported startup parameter: extra_float_digits\0\0".to_vec();
    let length = u32::try_from(error.len() + 4).unwrap();
    error.splice(..0, [&b"E"[..], &length.to_be_bytes()].concat());
    let mut asked = vec![0; 4096];
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        if client.read(&mut asked).await.is_ok() {
            let _ = client.write_all(&error).await;
        }
    }
}

#[tokio::test]
async fn finding_t12_a_pooler_in_between_is_refused_in_words() {
    let place = Place::open().await;
    let server = place.superuser.port().unwrap();
    let relay = Relay::to(server).await;
    place.point_at(relay.port);
    let broker = Broker::dev(&place).await;
    let operator = place.operator();
    let (request, credential) = broker.live(600).await;
    let direct = at(&credential, server);
    let mut session = place.log_in(&direct).await.unwrap();
    relay.drop_options(true);
    relay.lead_to(server);
    doctor_names(&place, "connect directly, without a pooler").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    place.point_at(listener.local_addr().unwrap().port());
    tokio::select! {
        () = pooler_at_its_defaults(listener) => {}
        () = doctor_names(&place, "options_dropped") => {}
    }
    let another = broker.ask_for_report(60).await;
    let refused = broker.collect(REPORTER, &another).await;
    assert!(!refused.status.is_success(), "{refused:?}");
    done(&broker, &request).await;
    let words = [id(&request), "options_dropped"];
    recorded(&broker, &operator, "lease.end_failed", &words).await;
    assert_eq!(broker.request(REPORTER, &request).await["state"], "ending");
    assert_eq!(place.credentials().await, [user(&credential)]);
    assert!(works(&mut session).await);
    relay.drop_options(false);
    relay.lead_to(server);
    broker.closed(NEXT_ATTEMPT, REPORTER, &request).await;
    assert!(!works(&mut session).await);
}

/// What `doctor` says of a set-up that is not as `init-sql` left it.
async fn doctor_names(place: &Place, what: &str) {
    let doctor = local(&["doctor", "."], &place.dir).await;
    assert_eq!(doctor.code, Some(2), "{doctor:?}");
    assert!(doctor.out.contains(what), "{what}: {doctor:?}");
}

#[tokio::test]
async fn a_dba_who_tidies_up_by_hand_is_survived() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let operator = place.operator();
    // The role goes, its session stays: that is no end.
    let (request, credential) = broker.live(600).await;
    let mut session = place.log_in(&credential).await.unwrap();
    let drop_it = format!("DROP ROLE {}", user(&credential));
    place.run_sql("shop", &drop_it).await;
    assert!(works(&mut session).await, "that was the premise");
    broker.finish(REPORTER, &request).await;
    assert!(!works(&mut session).await, "it is called ended and goes on");

    // A function that does nothing any more is named, and mended by what made it.
    let lame = "CREATE OR REPLACE FUNCTION countersign.lease_kill(handles text[], deployment text) RETURNS integer \
                LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN 0; END'";
    place.run_sql("shop", lame).await;
    doctor_names(&place, "lease_kill").await;
    place.prepare_shop().await;
    local(&["doctor", "."], &place.dir).await.fine();

    // Without our schema nothing can be ended, so nothing is called ended.
    let (request, credential) = broker.live(600).await;
    let mut session = place.log_in(&credential).await.unwrap();
    place
        .run_sql("shop", "DROP SCHEMA countersign CASCADE")
        .await;
    done(&broker, &request).await;
    recorded(&broker, &operator, "lease.end_failed", &[id(&request)]).await;
    assert_eq!(broker.request(REPORTER, &request).await["state"], "ending");
    assert!(works(&mut session).await);
    doctor_names(&place, "init-sql").await;
    place.prepare_shop().await;
    broker.closed(NEXT_ATTEMPT, REPORTER, &request).await;
    assert!(!works(&mut session).await, "it is called ended and goes on");
    assert_eq!(place.credentials().await, Vec::<String>::new());
    let (request, _) = broker.live(60).await;
    broker.finish(REPORTER, &request).await;
}
