//! What the commands say, with a real broker behind them.

use super::broker::{Broker, id};
use super::cli::{Ran, countersign, local, run};
use super::person::Person;
use super::place::Place;
use super::{MIGRATOR, REPORTER};

/// All of these words, in stdout or stderr.
fn says(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(
            ran.out.contains(word) || ran.err.contains(word),
            "{word:?} is missing in {ran:?}"
        );
    }
}

#[tokio::test]
async fn a_request_is_asked_for_shown_waited_for_and_run() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let ask = async |token: &str, arguments: &[&str]| {
        run(countersign(&broker.base, token, arguments)).await
    };
    let actions = ask(REPORTER, &["actions"]).await.fine();
    says(
        &actions,
        &[
            "customers.export",
            "1 of dba, 1 of security",
            "15m, at most 1h",
        ],
    );
    let action = ask(REPORTER, &["actions", "customers.export"]).await.fine();
    says(&action, &["country: one of de, fr, es"]);

    let request = [
        "request",
        "customers.export",
        "--param",
        "country=de",
        "--reason",
        "Berlin",
        "--json",
    ];
    let request = ask(REPORTER, &request).await.fine().json();
    let name = id(&request);
    let listed = ask(REPORTER, &["ls"]).await.fine();
    says(
        &listed,
        &[name, "pending", "country=de", "1 of support-leads"],
    );
    let shown = ask(REPORTER, &["show", name]).await.fine();
    says(
        &shown,
        &["only rows where country = de", "review at", "waits until"],
    );
    let waited = ask(REPORTER, &["wait", name, "--timeout", "1s"]).await;
    assert_eq!(waited.code, Some(6));
    says(
        &waited,
        &["nobody has decided yet [pending]", "countersign exec req_"],
    );
    let foreign = ask(MIGRATOR, &["show", name]).await;
    assert_eq!(foreign.code, Some(1));
    says(&foreign, &["there is nothing here for you"]);

    let waiting = ["wait", name];
    let (waited, ()) = tokio::join!(ask(REPORTER, &waiting), async {
        let mut ben = Person::sign_in(&broker.base, "dev", "ben").await;
        ben.approve(&request).await;
    });
    says(&waited.fine(), &["approved"]);
    let query = "SELECT name FROM shop.customers ORDER BY id";
    let ran = ask(REPORTER, &["exec", name, "--", "psql", "-Atqc", query])
        .await
        .fine();
    assert_eq!(ran.out, "Anja Vogel\nBernd Krause\n");
    let shown = ask(REPORTER, &["show", name]).await.fine();
    says(&shown, &["closed, completed"]);
    let again = ask(REPORTER, &["exec", name, "--", "true"]).await;
    assert_eq!(again.code, Some(125), "{again:?}");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let ask = async |token: &str, arguments: &[&str]| {
        run(countersign(&broker.base, token, arguments)).await
    };
    let cases: [(&str, &[&str], i32, &[&str]); 7] = [
        (
            REPORTER,
            &["request", "customers.export", "--param", "country=it"],
            2,
            &["give one of de, fr, es"],
        ),
        (
            REPORTER,
            &["request", "customers.exprt"],
            2,
            &["did you mean customers.export?"],
        ),
        (
            REPORTER,
            &["request", "schema.migrate"],
            5,
            &["no policy permits it [policy_denied]"],
        ),
        (
            REPORTER,
            &["agent", "ls"],
            3,
            &["[forbidden]", "This is for the operator"],
        ),
        ("csk_wrong", &["ls"], 3, &["[unauthenticated]"]),
        (
            REPORTER,
            &["exec", "orders.report", "--", "no-such-command"],
            127,
            &["no-such-command"],
        ),
        (
            MIGRATOR,
            &["exec", "schema.migrate", "--no-wait", "--", "true"],
            125,
            &["[pending]"],
        ),
    ];
    for (token, arguments, code, words) in cases {
        let mut arguments = arguments.to_vec();
        if matches!(arguments[0], "request" | "exec") {
            arguments.splice(1..1, ["--reason", "x"]);
        }
        let ran = ask(token, &arguments).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        says(&ran, words);
    }
    let open = ask(MIGRATOR, &["ls", "--json"]).await.fine().json();
    let withdrawn = ask(MIGRATOR, &["revoke", id(&open)]).await.fine();
    says(&withdrawn, &["closed, withdrawn"]);
    let nowhere = run(countersign("http://127.0.0.1:9", REPORTER, &["ls"])).await;
    assert_eq!(nowhere.code, Some(8), "{nowhere:?}");
}

#[tokio::test]
async fn check_and_doctor_find_a_good_set_up_good_and_say_what_is_missing() {
    let place = Place::open().await;
    let check = local(&["check", "."], &place.dir).await.fine();
    says(
        &check,
        &["3 actions, 2 agents, 8 policies; 10 policy tests pass"],
    );
    let doctor = local(&["doctor", "."], &place.dir).await.fine();
    says(
        &doctor,
        &["target shop: PostgreSQL", "the rehearsal passed"],
    );
    assert_eq!(place.credentials().await, Vec::<String>::new());

    place
        .run_sql(
            "shop",
            "REVOKE countersign_orders_ro FROM countersign_granter",
        )
        .await;
    let doctor = local(&["doctor", "."], &place.dir).await;
    assert_eq!(doctor.code, Some(2), "{doctor:?}");
    says(
        &doctor,
        &[
            "error    target shop",
            "GRANT countersign_orders_ro TO countersign_granter",
        ],
    );
}
