//! `exec`.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::fake::{Fake, LEASE, PASSWORD, REQUEST, TOKEN};
use super::{Ran, assert_nothing_left, countersign, run};

fn exec(fake: &Fake, options: &[&str], command: &[&str]) -> Command {
    let mut arguments = vec![
        "exec",
        "orders.report",
        "--param",
        "days=7",
        "--reason",
        "monthly report",
    ];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(command);
    countersign(fake, &arguments)
}

pub(super) fn finished(fake: &Fake) -> serde_json::Value {
    let calls = fake.calls(&format!("POST /v1/requests/{REQUEST}/finish"));
    assert_eq!(calls.len(), 1, "finish is reported once");
    calls[0].json()
}

/// Starts it and reads its output up to the line `ready`.
pub(super) async fn start(mut command: Command) -> (Child, BufReader<tokio::process::ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let read = tokio::time::timeout(Duration::from_secs(30), out.read_line(&mut line));
    read.await.expect("the command never started").unwrap();
    assert_eq!(line, "ready\n");
    (child, out)
}

pub(super) fn signal(child: &Child, signal: Signal) {
    kill(
        Pid::from_raw(child.id().unwrap().try_into().unwrap()),
        signal,
    )
    .unwrap();
}

pub(super) async fn end(child: Child, mut out: BufReader<tokio::process::ChildStdout>) -> Ran {
    let mut rest = String::new();
    let all = async {
        let output = child.wait_with_output().await.unwrap();
        out.read_to_string(&mut rest).await.unwrap();
        Ran {
            out: rest,
            ..Ran::from(output)
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("it never ended")
}

#[tokio::test]
async fn case_180_the_command_gets_the_credential_and_nothing_is_left_after() {
    let fake = Fake::start("approved").await;
    let look = "env; echo ---; cat \"$PGPASSFILE\" \"$COUNTERSIGN_PASSWORD_FILE\" \"$COUNTERSIGN_CA_FILE\"; \
                stat -c '%a %n' \"$PGPASSFILE\" \"$COUNTERSIGN_PASSWORD_FILE\" \"$(dirname \"$PGPASSFILE\")\" \"$PGSSLROOTCERT\"";
    let mut command = exec(&fake, &["--ttl", "10m"], &["sh", "-c", look]);
    command
        .env("COUNTERSIGN_TOKEN", TOKEN)
        .env("COUNTERSIGN_KEY_FILE", "/nowhere/key")
        .env("PGPASSWORD", "somebody-elses")
        .env("PGHOSTADDR", "192.0.2.1")
        .env("PGSERVICE", "somebody-elses")
        .env("PGTZ", "UTC");
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (environment, files) = ran.out.split_once("---\n").unwrap();
    for line in [
        "PGHOST=db.internal",
        "PGPORT=5433",
        "PGDATABASE=orders",
        "PGUSER=jit_01jd",
        "PGSSLMODE=verify-full",
        "PGTZ=UTC",
        &format!("PGAPPNAME=countersign:{REQUEST}"),
        &format!("COUNTERSIGN_LEASE={LEASE}"),
        &format!("COUNTERSIGN_REQUEST={REQUEST}"),
    ] {
        assert!(
            environment.lines().any(|found| found == line),
            "{line} is missing from {environment}"
        );
    }
    assert!(environment.contains("COUNTERSIGN_EXPIRES_AT=20"));
    for absent in [
        PASSWORD,
        TOKEN,
        "COUNTERSIGN_TOKEN",
        "COUNTERSIGN_KEY",
        "PGPASSWORD",
        "PGHOSTADDR",
        "PGSERVICE",
    ] {
        assert!(
            !environment.contains(absent),
            "{absent} reached the command: {environment}"
        );
    }
    let secret = "db.internal:5433:orders:jit_01jd:pa\\:ss\\\\word-very-secret\n";
    let files_are = format!("{secret}{PASSWORD}-----BEGIN CERTIFICATE-----\n");
    assert!(files.starts_with(&files_are), "{files}");
    let jdbc = "COUNTERSIGN_JDBC_URL=jdbc:postgresql://db.internal:5433/orders?user=jit_01jd&sslmode=verify-full&sslrootcert=/";
    assert!(environment.contains(jdbc), "{environment}");
    let modes: Vec<_> = files
        .lines()
        .rev()
        .take(4)
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(modes, ["600", "700", "600", "600"]);
    assert!(!ran.err.contains(PASSWORD) && !ran.err.contains(TOKEN));
    assert_eq!(
        finished(&fake),
        json!({"outcome": "succeeded", "exit_code": 0})
    );
    let asked = fake.calls("POST /v1/requests")[0].json();
    assert_eq!(
        asked,
        json!({"action": "orders.report", "parameters": {"days": 7}, "ttl_seconds": 600, "reason": "monthly report"})
    );
    assert_nothing_left(&fake);
}

#[tokio::test]
async fn the_password_is_in_the_environment_only_when_asked_for() {
    let fake = Fake::start("approved").await;
    let ran = run(exec(
        &fake,
        &["--env"],
        &["sh", "-c", "printf %s \"$PGPASSWORD\""],
    ))
    .await;
    assert_eq!(ran.out, PASSWORD);
}

#[tokio::test]
async fn the_commands_exit_code_and_streams_pass_through() {
    let fake = Fake::start("approved").await;
    let ran = run(exec(
        &fake,
        &["--quiet"],
        &["sh", "-c", "echo out; echo err >&2; exit 42"],
    ))
    .await;
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (Some(42), "out\n", "err\n")
    );
    assert_eq!(
        finished(&fake),
        json!({"outcome": "failed", "exit_code": 42})
    );
    assert_nothing_left(&fake);
}

#[tokio::test]
async fn a_command_ended_by_a_signal_is_128_and_its_number() {
    let fake = Fake::start("approved").await;
    let ran = run(exec(&fake, &[], &["sh", "-c", "kill -KILL $$"])).await;
    assert_eq!(ran.code, Some(137), "{ran:?}");
    assert_eq!(finished(&fake)["exit_code"], 137);
}

#[tokio::test]
async fn signals_reach_the_command_and_nothing_is_left_after() {
    for (sent, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
    ] {
        let fake = Fake::start("approved").await;
        let (child, out) =
            start(exec(&fake, &[], &["sh", "-c", "echo ready; exec sleep 50"])).await;
        signal(&child, sent);
        let ran = end(child, out).await;
        assert_eq!(ran.code, Some(code), "{sent}: {ran:?}");
        assert_eq!(
            finished(&fake),
            json!({"outcome": "failed", "exit_code": code})
        );
        assert_nothing_left(&fake);
    }
}

#[tokio::test]
async fn a_command_may_handle_the_signals_it_is_sent() {
    let fake = Fake::start("approved").await;
    let program = "trap 'echo one; kill $!; exit 7' USR1; sleep 50 & echo ready; wait";
    let (child, out) = start(exec(&fake, &[], &["sh", "-c", program])).await;
    signal(&child, Signal::SIGUSR1);
    let ran = end(child, out).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(7), "one\n"), "{ran:?}");
}

#[tokio::test]
async fn being_told_to_end_while_waiting_takes_the_request_back() {
    let fake = Fake::start("pending").await;
    let child = exec(&fake, &[], &["true"]).spawn().unwrap();
    fake.until_called(&format!("GET /v1/requests/{REQUEST}"))
        .await;
    signal(&child, Signal::SIGTERM);
    let ran = Ran::from(child.wait_with_output().await.unwrap());
    assert_eq!(ran.code, Some(143), "{ran:?}");
    assert_eq!(
        fake.calls(&format!("POST /v1/requests/{REQUEST}/withdraw"))
            .len(),
        1
    );
    assert!(
        fake.calls(&format!("POST /v1/requests/{REQUEST}/credential"))
            .is_empty()
    );
    assert!(ran.err.contains("withdrawn"), "{ran:?}");
}

#[tokio::test]
async fn it_waits_for_a_person_and_says_where_they_decide() {
    let fake = Fake::start("pending").await;
    let child = exec(&fake, &[], &["echo", "done"]).spawn().unwrap();
    fake.until_called(&format!("GET /v1/requests/{REQUEST}"))
        .await;
    fake.set("state", "approved");
    let ran = Ran::from(child.wait_with_output().await.unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "done\n"), "{ran:?}");
    for part in [
        "waiting for 1 of dba",
        "digest ab12cd34ef56,",
        "review at https://broker.example/requests/",
    ] {
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
}

#[tokio::test]
async fn what_stops_it_before_the_start_is_125_and_the_command_never_runs() {
    let closed = [
        ("denied", "denied"),
        ("refused", "policy_denied"),
        ("lapsed", "lapsed"),
        ("frozen", "frozen"),
    ];
    for (outcome, code) in closed {
        let fake = Fake::start("closed").await;
        fake.set("outcome", outcome);
        let ran = run(exec(&fake, &[], &["touch", "started"])).await;
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(
            ran.err.contains(&format!("[{code}]")) && ran.err.contains("next: "),
            "{ran:?}"
        );
        assert_nothing_left(&fake);
    }
    let fake = Fake::start("pending").await;
    for wait in [&["--no-wait"][..], &["--wait", "1s"]] {
        let ran = run(exec(&fake, wait, &["touch", "started"])).await;
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(ran.err.contains("[pending]"), "{ran:?}");
    }
    assert_nothing_left(&fake);
}

#[tokio::test]
async fn a_wrong_command_line_is_125_too() {
    let fake = Fake::start("approved").await;
    let ran = run(countersign(
        &fake,
        &["exec", "orders.report", "--no-such-option", "--", "true"],
    ))
    .await;
    assert_eq!(ran.code, Some(125), "{ran:?}");
    let ran = run(exec(&fake, &["--ttl", "soon"], &["true"])).await;
    assert_eq!(ran.code, Some(125), "{ran:?}");
}

#[tokio::test]
async fn a_command_that_cannot_run_is_found_before_anybody_is_asked() {
    let fake = Fake::start("approved").await;
    let script = fake.path("script");
    std::fs::write(&script, "echo no\n").unwrap();
    let script = script.to_str().unwrap().to_owned();
    for (command, code) in [
        ("no-such-command", 127),
        ("/no/such/file", 127),
        (script.as_str(), 126),
        ("/usr", 126),
    ] {
        let ran = run(exec(&fake, &[], &[command])).await;
        assert_eq!(ran.code, Some(code), "{command}: {ran:?}");
    }
    assert!(fake.calls("POST /v1/requests").is_empty());
}

#[tokio::test]
async fn a_command_that_fails_to_start_gives_its_access_back() {
    let fake = Fake::start("approved").await;
    let script = fake.path("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ran = run(exec(&fake, &[], &[script.to_str().unwrap()])).await;
    assert_eq!(ran.code, Some(127), "{ran:?}");
    assert_eq!(finished(&fake)["outcome"], "failed");
    assert_nothing_left(&fake);
}

#[tokio::test]
async fn a_broker_that_is_down_is_125() {
    let fake = Fake::start("approved").await;
    let mut command = exec(&fake, &[], &["true"]);
    command.env("COUNTERSIGN_ADDR", "http://127.0.0.1:1");
    let ran = run(command).await;
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.err.contains("[unreachable]"), "{ran:?}");
}

#[tokio::test]
async fn a_lost_answer_is_collected_again_with_the_same_key() {
    let fake = Fake::start("approved").await;
    fake.tell(|script| script.lose_answers = 2);
    let ran = run(exec(&fake, &[], &["sh", "-c", "echo $PGUSER"])).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "jit_01jd\n"),
        "{ran:?}"
    );
    let calls = fake.calls(&format!("POST /v1/requests/{REQUEST}/credential"));
    assert_eq!(calls.len(), 3);
    assert!(
        calls
            .iter()
            .all(|call| call.key.is_some() && call.key == calls[0].key),
        "{calls:?}"
    );
    let submitted = fake.calls("POST /v1/requests");
    assert!(submitted[0].key.is_some() && submitted[0].key != calls[0].key);
}

#[tokio::test]
async fn one_exec_inside_another_is_refused() {
    let fake = Fake::start("approved").await;
    let mut command = exec(&fake, &[], &["true"]);
    command.env("COUNTERSIGN_LEASE", LEASE);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.err.contains("[nested]") && fake.calls("POST /v1/requests").is_empty());
    let mut command = exec(&fake, &["--nest"], &["true"]);
    command.env("COUNTERSIGN_LEASE", LEASE);
    assert_eq!(run(command).await.code, Some(0));
}

#[tokio::test]
async fn revoked_access_ends_the_command() {
    let fake = Fake::start("approved").await;
    let (child, out) = start(exec(
        &fake,
        &["--poll", "1s"],
        &["sh", "-c", "echo ready; exec sleep 50"],
    ))
    .await;
    fake.set("outcome", "revoked");
    fake.set("state", "closed");
    let ran = end(child, out).await;
    assert_eq!(ran.code, Some(143), "{ran:?}");
    assert!(
        ran.err
            .contains("access was ended early (revoked); ending the command"),
        "{ran:?}"
    );
    assert_nothing_left(&fake);
}

#[tokio::test]
async fn revoked_access_may_be_told_only() {
    let fake = Fake::start("approved").await;
    let program = "trap 'kill $!; exit 0' USR1; sleep 50 & echo ready; wait";
    let (mut child, out) = start(exec(
        &fake,
        &["--poll", "1s", "--on-revoke", "warn"],
        &["sh", "-c", program],
    ))
    .await;
    fake.set("outcome", "revoked");
    fake.set("state", "closed");
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("goes on without it") {
        assert!(err.read_line(&mut seen).await.unwrap() > 0, "{seen}");
    }
    signal(&child, Signal::SIGUSR1);
    assert_eq!(end(child, out).await.code, Some(0));
}

#[tokio::test]
async fn the_end_of_a_lease_is_announced() {
    let fake = Fake::start("approved").await;
    fake.tell(|script| script.lease_ms = 61_500);
    let program = "trap 'kill $!; exit 0' USR1; sleep 50 & echo ready; wait";
    let (mut child, out) = start(exec(&fake, &["--quiet"], &["sh", "-c", program])).await;
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    err.read_line(&mut seen).await.unwrap();
    assert!(
        seen.contains("access ends in 1m") || seen.contains("access ends in 59s"),
        "{seen}"
    );
    signal(&child, Signal::SIGUSR1);
    assert_eq!(end(child, out).await.code, Some(0));
}

#[tokio::test]
async fn an_end_that_is_not_proven_is_not_called_one() {
    let fake = Fake::start("approved").await;
    fake.tell(|script| script.slow_end = true);
    let ran = run(exec(&fake, &[], &["true"])).await;
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.err.contains("access is not proven ended yet") && !ran.err.contains("has ended"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn kept_access_is_not_reported_finished_but_its_files_go() {
    let fake = Fake::start("approved").await;
    let ran = run(exec(&fake, &["--keep"], &["true"])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        fake.calls(&format!("POST /v1/requests/{REQUEST}/finish"))
            .is_empty()
    );
    assert_nothing_left(&fake);
}

#[tokio::test]
async fn credentials_are_never_in_the_working_directory() {
    let fake = Fake::start("approved").await;
    let mut command = exec(&fake, &[], &["sh", "-c", "dirname \"$PGPASSFILE\""]);
    command.env("XDG_RUNTIME_DIR", fake.path("work"));
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        !ran.out.starts_with(fake.path("work").to_str().unwrap()),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_request_made_before_can_be_run_later() {
    let fake = Fake::start("approved").await;
    let ran = run(countersign(
        &fake,
        &["exec", REQUEST, "--", "echo", "later"],
    ))
    .await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "later\n"),
        "{ran:?}"
    );
    assert!(fake.calls("POST /v1/requests").is_empty());
    let ran = run(countersign(
        &fake,
        &["exec", REQUEST, "--ttl", "1h", "--", "true"],
    ))
    .await;
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.err.contains("[request_is_fixed]"), "{ran:?}");
}

#[tokio::test]
async fn a_credential_that_never_arrives_is_given_back() {
    let fake = Fake::start("approved").await;
    fake.tell(|script| script.lose_answers = 100);
    let ran = run(exec(&fake, &[], &["touch", "started"])).await;
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert_eq!(finished(&fake)["note"], "the credential never arrived");
    assert_nothing_left(&fake);
}
