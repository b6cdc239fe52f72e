//! `aws-credentials`: what an SDK gets from it, what is kept, and when it says no.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::process::Command;

use super::fake::{Fake, LEASE, PASSWORD, REQUEST, SECRET_KEY, SESSION_TOKEN};
use super::{Ran, countersign, run};

const SUBMIT: &str = "POST /v1/requests";

async fn fake(state: &str) -> Fake {
    let fake = Fake::start(state).await;
    fake.tell(|script| script.aws = true);
    fake
}

fn ask(fake: &Fake, options: &[&str]) -> Command {
    let mut arguments = vec!["aws-credentials", "orders.report", "-p", "days=7"];
    arguments.extend(options);
    countersign(fake, &arguments)
}

fn collects(fake: &Fake) -> usize {
    fake.calls(&format!("POST /v1/requests/{REQUEST}/credential"))
        .len()
}

/// Files kept for the next run.
fn kept(fake: &Fake) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(fake.path("run").join("countersign")) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end != "lock"))
        .collect()
}

/// It said no, in one line, and gave nothing away.
fn assert_refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(ran.out.is_empty(), "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word}: {ran:?}");
    }
    for secret in [SECRET_KEY, SESSION_TOKEN, PASSWORD] {
        assert!(!ran.err.contains(secret), "{ran:?}");
    }
}

#[tokio::test]
async fn one_lease_serves_every_run_until_it_ends() {
    let fake = fake("approved").await;
    fake.tell(|script| script.lease_ms = 3_600_000);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let ran = run(ask(&fake, &["--reason", "monthly report"])).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        answers.push(ran.json());
    }
    let first = &answers[0];
    let mut members: Vec<_> = first
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "AccessKeyId",
            "AccountId",
            "Expiration",
            "SecretAccessKey",
            "SessionToken",
            "Version"
        ]
    );
    assert_eq!(first["Version"], 1);
    assert_eq!(first["SecretAccessKey"], SECRET_KEY);
    assert_eq!(first["SessionToken"], SESSION_TOKEN);
    assert_eq!(fake.calls(SUBMIT).len(), 1);
    assert_eq!(collects(&fake), 1);
    use std::os::unix::fs::PermissionsExt;
    let files = kept(&fake);
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((files.len(), mode(&files[0])), (1, 0o600));
    assert_eq!(mode(files[0].parent().unwrap()), 0o700);
}

#[tokio::test]
async fn runs_at_the_same_time_ask_once() {
    let fake = fake("approved").await;
    let runs = (0..8).map(|_| run(ask(&fake, &[])));
    for ran in futures::future::join_all(runs).await {
        assert_eq!(ran.json()["SecretAccessKey"], SECRET_KEY);
    }
    assert_eq!((fake.calls(SUBMIT).len(), collects(&fake)), (1, 1));
}

#[tokio::test]
async fn another_question_gets_another_lease() {
    let fake = fake("approved").await;
    run(ask(&fake, &[])).await.json();
    fake.set("state", "approved");
    let other = countersign(&fake, &["aws-credentials", "orders.report", "-p", "days=8"]);
    run(other).await.json();
    let mut elsewhere = ask(&fake, &[]);
    std::fs::copy(fake.path("token"), fake.path("other-token")).unwrap();
    elsewhere.env("COUNTERSIGN_TOKEN_FILE", fake.path("other-token"));
    fake.set("state", "approved");
    run(elsewhere).await.json();
    assert_eq!((fake.calls(SUBMIT).len(), kept(&fake).len()), (3, 3));
}

#[tokio::test]
async fn a_revoked_lease_stays_refused_until_it_is_forgotten() {
    let fake = fake("approved").await;
    fake.tell(|script| script.starts_anew = Some("approved"));
    run(ask(&fake, &[])).await.json();
    fake.set(
        "lease",
        json!({"id": LEASE, "state": "cut_off", "cause": "revoked", "since": "2026-11-22T10:30:00.000Z"}),
    );
    fake.set("state", "ending");
    let words = [
        REQUEST,
        "was revoked at 2026-11-22T10:30:00.000Z",
        "--end",
        "[revoked]",
    ];
    assert_refused(&run(ask(&fake, &[])).await, 7, &words);
    fake.set("state", "closed");
    fake.set("outcome", "revoked");
    assert_refused(&run(ask(&fake, &[])).await, 7, &words);
    assert_eq!(fake.calls(SUBMIT).len(), 1, "it asked again by itself");
    let text = std::fs::read_to_string(&kept(&fake)[0]).unwrap();
    assert!(!text.contains(SECRET_KEY) && !text.contains(SESSION_TOKEN));
    assert_eq!(run(ask(&fake, &["--end"])).await.code, Some(0));
    assert!(kept(&fake).is_empty());
    run(ask(&fake, &[])).await.json();
    assert_eq!(fake.calls(SUBMIT).len(), 2);
}

#[tokio::test]
async fn a_lease_that_ran_out_or_was_finished_is_asked_for_again() {
    for outcome in ["expired", "completed"] {
        let fake = fake("approved").await;
        fake.tell(|script| script.starts_anew = Some("approved"));
        run(ask(&fake, &[])).await.json();
        fake.set("outcome", outcome);
        fake.set("state", "closed");
        run(ask(&fake, &[])).await.json();
        assert_eq!((fake.calls(SUBMIT).len(), collects(&fake)), (2, 2));
        let keys = fake.calls(SUBMIT);
        assert_ne!(keys[0].key, keys[1].key);
    }
}

#[tokio::test]
async fn a_lease_that_was_revoked_before_it_ran_out_is_not_asked_for_again() {
    let fake = fake("approved").await;
    fake.tell(|script| script.lease_ms = 1);
    let ran = run(ask(&fake, &[])).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    fake.set("outcome", "revoked");
    fake.set("state", "closed");
    assert_refused(&run(ask(&fake, &[])).await, 7, &["was revoked"]);
}

#[tokio::test]
async fn waiting_goes_on_with_the_next_run() {
    let fake = fake("pending").await;
    let words = [
        REQUEST,
        "waits for 1 of dba",
        "https://broker.example/requests/",
        "[pending]",
    ];
    for _ in 0..2 {
        assert_refused(&run(ask(&fake, &["--wait", "1s"])).await, 6, &words);
    }
    let shown = format!("GET /v1/requests/{REQUEST}");
    let before = fake.calls(&shown).len();
    let decided = async {
        fake.until_calls(&shown, before + 1).await;
        fake.set("state", "approved");
    };
    let (ran, ()) = tokio::join!(run(ask(&fake, &[])), decided);
    ran.json();
    assert_eq!((fake.calls(SUBMIT).len(), collects(&fake)), (1, 1));
}

#[tokio::test]
async fn what_a_person_denied_is_not_asked_for_again() {
    let fake = fake("pending").await;
    assert_eq!(run(ask(&fake, &["--wait", "0s"])).await.code, Some(6));
    fake.set("reviews", json!([{"reviewer": {"issuer": "https://idp.example", "subject": "ada"}, "decision": "deny", "at": "now"}]));
    fake.set("outcome", "denied");
    fake.set("state", "closed");
    for _ in 0..2 {
        assert_refused(
            &run(ask(&fake, &[])).await,
            4,
            &["ada denied it", "[denied]"],
        );
    }
    assert_eq!(fake.calls(SUBMIT).len(), 1);
}

#[tokio::test]
async fn what_was_not_decided_in_time_is_asked_for_again() {
    let fake = fake("pending").await;
    fake.tell(|script| script.starts_anew = Some("approved"));
    assert_eq!(run(ask(&fake, &["--wait", "0s"])).await.code, Some(6));
    fake.set("outcome", "lapsed");
    fake.set("state", "closed");
    run(ask(&fake, &[])).await.json();
    assert_eq!(fake.calls(SUBMIT).len(), 2);
}

#[tokio::test]
async fn in_doubt_nothing_is_handed_out() {
    let fake = fake("approved").await;
    run(ask(&fake, &[])).await.json();
    fake.set("state", "dreaming");
    assert_refused(
        &run(ask(&fake, &[])).await,
        9,
        &["is dreaming", "[not_live]"],
    );
    let overloaded = json!({"status": 503, "code": "not_ready", "title": "not ready", "detail": "the ledger is away"});
    let shown = format!("GET /v1/requests/{REQUEST}");
    fake.can(&shown, 503, overloaded);
    let words = [LEASE, "still stands is not known", "the ledger is away"];
    assert_refused(&run(ask(&fake, &[])).await, 8, &words);
    fake.tell(|script| script.canned.clear());
    fake.set("state", "live");
    run(ask(&fake, &[])).await.json();
    assert_eq!(
        fake.calls(SUBMIT).len(),
        1,
        "an outage is no reason to ask again"
    );
}

#[tokio::test]
async fn a_broker_that_is_down_hands_nothing_out() {
    let fake = fake("approved").await;
    let mut command = ask(&fake, &[]);
    command.env("COUNTERSIGN_ADDR", "http://127.0.0.1:1");
    assert_refused(&run(command).await, 8, &["[unreachable]"]);
}

#[tokio::test]
async fn a_run_cut_short_is_taken_up_by_the_next_with_the_same_keys() {
    let fake = fake("approved").await;
    fake.tell(|script| script.lose_answers = 5);
    let ran = run(ask(&fake, &[])).await;
    assert_refused(&ran, 8, &[]);
    run(ask(&fake, &[])).await.json();
    let calls = fake.calls(&format!("POST /v1/requests/{REQUEST}/credential"));
    assert!(calls.len() == 6 && calls.iter().all(|call| call.key == calls[0].key));
    assert_eq!(fake.calls(SUBMIT).len(), 1);
}

#[tokio::test]
async fn an_ask_that_got_no_answer_is_repeated_with_the_same_key() {
    let fake = fake("approved").await;
    fake.can(
        SUBMIT,
        503,
        json!({"status": 503, "code": "not_ready", "title": "not ready"}),
    );
    assert_refused(&run(ask(&fake, &[])).await, 8, &[]);
    fake.tell(|script| script.canned.clear());
    run(ask(&fake, &[])).await.json();
    let calls = fake.calls(SUBMIT);
    assert!(calls.len() > 1 && calls.iter().all(|call| call.key == calls[0].key));
}

#[tokio::test]
async fn an_ask_with_other_words_under_the_same_key_is_made_anew() {
    let fake = fake("approved").await;
    fake.can(
        SUBMIT,
        503,
        json!({"status": 503, "code": "not_ready", "title": "not ready"}),
    );
    assert_refused(&run(ask(&fake, &[])).await, 8, &[]);
    fake.tell(|script| script.canned.clear());
    let calls = fake.calls(SUBMIT).len();
    run(ask(&fake, &["--reason", "another"])).await.json();
    assert_eq!(
        fake.calls(SUBMIT).len(),
        calls + 2,
        "once refused, once made"
    );
}

#[tokio::test]
async fn a_credential_of_another_kind_is_given_back() {
    let fake = Fake::start("approved").await;
    let ran = run(ask(&fake, &[])).await;
    assert_refused(
        &ran,
        2,
        &["does not give AWS credentials", "countersign exec"],
    );
    assert_eq!(
        fake.calls(&format!("POST /v1/requests/{REQUEST}/finish"))
            .len(),
        1
    );
    assert!(kept(&fake).is_empty());
}

#[tokio::test]
async fn access_is_ended_early_when_told() {
    let fake = fake("approved").await;
    run(ask(&fake, &[])).await.json();
    let ran = run(ask(&fake, &["--end"])).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    assert!(
        ran.err
            .contains("access has ended, proven at the target (completed)")
    );
    assert!(kept(&fake).is_empty());
    let ran = run(ask(&fake, &["--end"])).await;
    assert!(
        ran.code == Some(0) && ran.err.contains("nothing is held"),
        "{ran:?}"
    );
    let waiting = self::fake("pending").await;
    assert_eq!(run(ask(&waiting, &["--wait", "0s"])).await.code, Some(6));
    let ran = run(ask(&waiting, &["--end"])).await;
    assert!(ran.err.contains("the request was withdrawn"), "{ran:?}");
}

#[tokio::test]
async fn a_place_that_others_can_enter_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let fake = fake("approved").await;
    let place = fake.path("run").join("countersign");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
    assert_refused(
        &run(ask(&fake, &[])).await,
        2,
        &["is open to others", "[not_private]"],
    );
    assert!(fake.calls(SUBMIT).is_empty());
    let mut nowhere = ask(&fake, &[]);
    nowhere.env_remove("XDG_RUNTIME_DIR");
    assert_refused(&run(nowhere).await, 2, &["[no_place]"]);
}

#[tokio::test]
async fn what_policy_refuses_is_said_each_time() {
    let fake = fake("closed").await;
    fake.set("outcome", "refused");
    for _ in 0..2 {
        let ran = run(ask(&fake, &[])).await;
        assert_refused(&ran, 5, &["decided by review-exports", "[policy_denied]"]);
    }
    assert_eq!(fake.calls(SUBMIT).len(), 2);
    let value: Value = fake.calls(SUBMIT)[0].json();
    assert_eq!(value["action"], "orders.report");
}
