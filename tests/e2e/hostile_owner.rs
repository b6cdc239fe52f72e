//! The hostile migrator: for the time of an approved migration it is the owner of the shop's tables, and it tries to stay.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::broker::{Broker, id};
use super::person::Person;
use super::place::{Place, column, try_sql};
use super::{MIGRATOR, REPORTER};

/// What an owner may do, and what would outlive it; each with what is said of it afterwards.
const LEFT: [(&str, &str); 9] = [
    (
        "CREATE FUNCTION shop.trap() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT email FROM shop.customers'",
        "dropped SECURITY DEFINER routine shop.trap()",
    ),
    (
        "CREATE FUNCTION shop.fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN DELETE FROM shop.customers; RETURN NEW; END'",
        "made SECURITY INVOKER: routine shop.fire()",
    ),
    (
        "CREATE TRIGGER fires BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.fire()",
        "new: trigger CREATE TRIGGER fires",
    ),
    (
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
        "new: default privilege SELECT on new tables of shop_owner for PUBLIC",
    ),
    (
        "ALTER TABLE shop.customers DISABLE ROW LEVEL SECURITY",
        "gone: row level security of shop.customers enabled",
    ),
    (
        "CREATE POLICY wide ON shop.customers USING (true)",
        "new: permissive policy wide on shop.customers",
    ),
    (
        "GRANT INSERT ON shop.orders TO countersign_orders_ro",
        "new: INSERT on table shop.orders granted to countersign_orders_ro",
    ),
    (
        "ALTER ROLE shop_owner SET search_path = evil",
        "new: setting of shop_owner: search_path=evil",
    ),
    (
        "CREATE RULE also AS ON UPDATE TO shop.orders DO ALSO DELETE FROM shop.customers",
        "new: rule CREATE RULE also",
    ),
];

/// What not even the owner of the tables may do; gives what the server let it do.
async fn overreach(session: &mut PgConnection, user: &str) -> Vec<String> {
    let tries = [
        "ALTER ROLE shop_owner LOGIN".to_owned(),
        "GRANT shop_owner TO countersign_orders_ro".to_owned(),
        "GRANT shop_owner TO PUBLIC".to_owned(),
        format!("GRANT shop_owner TO {user} WITH ADMIN OPTION"),
        format!("GRANT {user} TO countersign_orders_ro"),
        "ALTER TABLE shop.orders OWNER TO countersign_broker".to_owned(),
        "ALTER SCHEMA shop OWNER TO countersign_orders_ro".to_owned(),
        "REASSIGN OWNED BY shop_owner TO countersign_orders_ro".to_owned(),
        "CREATE ROLE friend LOGIN".to_owned(),
        "SET SESSION AUTHORIZATION shop_owner".to_owned(),
        "INSERT INTO countersign.lease_scope VALUES ('countersign_orders_ro', 'country', 'de')"
            .to_owned(),
        "CREATE EVENT TRIGGER ever ON ddl_command_end EXECUTE FUNCTION shop.fire()".to_owned(),
        "BEGIN; UPDATE shop.orders SET status = 'mine'; PREPARE TRANSACTION 'mine'".to_owned(),
    ];
    let mut done = Vec::new();
    for sql in tries {
        if try_sql(session, &sql).await.is_ok() {
            done.push(sql);
        }
        let _ = try_sql(session, "ROLLBACK").await;
    }
    done
}

/// A migration that both groups have approved, and its credential.
async fn migration(broker: &Broker) -> (Value, Value) {
    let body = json!({"action": "schema.migrate", "reason": "add a column"});
    let migration = broker.ask(MIGRATOR, &body).await;
    for person in ["ben", "chloe"] {
        let mut person = Person::sign_in(&broker.base, "dev", person).await;
        person.approve(&migration).await;
    }
    let collected = broker.collect(MIGRATOR, &migration).await;
    assert!(collected.status.is_success(), "{collected:?}");
    (migration, collected.body["credential"].clone())
}

fn assert_all_named(found: &str, r#where: &str) {
    for (_, said) in LEFT {
        assert!(
            found.contains(said),
            "{where} does not say {said:?}: {found}"
        );
    }
}

/// What it left is said wherever people look, and nothing works with the rights it had.
async fn all_is_told(place: &Place, broker: &Broker, migration: &Value, closed: &Value) {
    let residue = closed["residue"].as_array().unwrap();
    let lines: Vec<_> = residue.iter().map(|line| line.as_str().unwrap()).collect();
    assert_all_named(&lines.join("\n"), "the request");
    let mut ben = Person::sign_in(&broker.base, "dev", "ben").await;
    let page = ben.page(&format!("/requests/{}", id(migration))).await;
    assert_all_named(&page.text, "its page");
    let ledger = broker.ledger(&place.operator()).await;
    let ended = ledger
        .iter()
        .find(|entry| entry.contains("\"kind\":\"lease.ended\"") && entry.contains(id(migration)));
    assert_all_named(ended.unwrap(), "the ledger");
}

async fn nothing_works_any_more(place: &Place) {
    let mut admin = place.superuser("shop").await;
    for (what, sql) in [
        (
            "a definer is left",
            "SELECT proname::text FROM pg_proc WHERE prosecdef AND pronamespace = 'shop'::regnamespace",
        ),
        (
            "somebody else owns something",
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relowner <> 'shop_owner'::regrole",
        ),
        (
            "somebody is a member of the owner",
            "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = 'shop_owner'::regrole AND member::regrole::text LIKE 'jit\\_%'",
        ),
        (
            "a lease's role is left",
            "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'jit\\_%'",
        ),
    ] {
        let left = column(&mut admin, sql).await.unwrap();
        assert_eq!(left, Vec::<String>::new(), "{what}");
    }
}

async fn fight(version: u32) {
    let place = Place::open_on(version).await;
    let broker = Broker::dev(&place).await;
    let body = json!({"action": "customers.export", "parameters": {"country": "de"}});
    let export = broker.ask(REPORTER, &body).await;
    let mut dmitri = Person::sign_in(&broker.base, "dev", "dmitri").await;
    dmitri.approve(&export).await;

    let (migration, credential) = migration(&broker).await;
    let user = credential["user"].as_str().unwrap();
    let mut session = place.log_in(&credential).await.unwrap();
    for (sql, _) in LEFT {
        try_sql(&mut session, sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert_eq!(overreach(&mut session, user).await, Vec::<String>::new());
    // While it is there, it works: that is what is taken away.
    let (request, reporter) = broker.live(60).await;
    let mut outsider = place.log_in(&reporter).await.unwrap();
    let stolen = "SELECT shop.trap()";
    assert_eq!(column(&mut outsider, stolen).await.unwrap().len(), 6);

    let closed = broker.finish(MIGRATOR, &migration).await;
    assert!(column(&mut session, "SELECT 1::text").await.is_err());
    assert!(place.log_in(&credential).await.is_err());
    assert!(column(&mut outsider, stolen).await.is_err());
    let insert = "INSERT INTO shop.orders VALUES (999, 1, 'paid', 1, now())";
    let fired = try_sql(&mut outsider, insert).await.unwrap_err();
    assert!(fired.to_string().contains("permission denied"), "{fired}");
    broker.finish(REPORTER, &request).await;
    all_is_told(&place, &broker, &migration, &closed).await;
    nothing_works_any_more(&place).await;
    // The rows that were approved do not bind any more, so nothing is minted for them.
    let unbound = broker.collect(REPORTER, &export).await;
    assert!(!unbound.status.is_success(), "{unbound:?}");
    assert_eq!(place.credentials().await, Vec::<String>::new());
}

#[tokio::test]
async fn finding_t07_a_hostile_migrator_stays_in_nothing_on_15() {
    fight(15).await;
}

#[tokio::test]
async fn finding_t07_a_hostile_migrator_stays_in_nothing_on_18() {
    fight(18).await;
}
