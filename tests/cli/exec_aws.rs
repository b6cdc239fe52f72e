//! `exec` with an AWS session: the endpoint on loopback, and what the command's environment holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::header::{AUTHORIZATION, HOST, ORIGIN, REFERER};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::exec::{end, finished, signal, start};
use super::fake::{Fake, LEASE, SECRET_KEY, SESSION_TOKEN};
use super::{Ran, assert_nothing_left, countersign, run, until_said};

/// Says what its environment is, and then waits to be told to end.
const PROGRAM: &str =
    "echo ready; env; echo ---; trap 'kill $!; exit 0' USR1; sleep 50 & wait; echo told";

async fn fake() -> Fake {
    let fake = Fake::start("approved").await;
    fake.tell(|script| script.aws = true);
    fake
}

fn exec(fake: &Fake, options: &[&str], command: &[&str]) -> Command {
    let mut arguments = vec!["exec", "orders.report", "--param", "days=7"];
    arguments.extend(options);
    arguments.push("--");
    arguments.extend(command);
    countersign(fake, &arguments)
}

/// A command under way, and what it was given.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Kept open once it was read from.
    err: Option<BufReader<ChildStderr>>,
    environment: BTreeMap<String, String>,
}

impl Running {
    async fn start(command: Command) -> Self {
        let (child, mut out) = start(command).await;
        let mut environment = BTreeMap::new();
        loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).await.unwrap() > 0);
            if line == "---\n" {
                break;
            }
            let (name, value) = line.trim_end().split_once('=').unwrap();
            environment.insert(name.into(), value.into());
        }
        Self {
            child,
            out,
            err: None,
            environment,
        }
    }

    fn url(&self) -> &str {
        &self.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    }

    fn token(&self) -> String {
        std::fs::read_to_string(&self.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
            .unwrap()
    }

    fn ask(&self, method: Method, url: &str) -> RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.request(method, url)
    }

    /// Asks as an SDK does.
    async fn fetch(&self) -> (u16, Value) {
        let asked = self
            .ask(Method::GET, self.url())
            .header(AUTHORIZATION, self.token());
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn until_said(&mut self, words: &str) {
        let mut err = BufReader::new(self.child.stderr.take().unwrap());
        until_said(&mut err, words).await;
        self.err = Some(err);
    }

    async fn end(self) -> Ran {
        signal(&self.child, Signal::SIGUSR1);
        end(self.child, self.out).await
    }
}

fn mode(path: impl AsRef<Path>) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn case_180_the_command_gets_an_endpoint_and_no_keys() {
    let fake = fake().await;
    let mut command = exec(&fake, &[], &["sh", "-c", PROGRAM]);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSES"),
        ("AWS_SECRET_ACCESS_KEY", "somebody-elses"),
        ("AWS_SESSION_TOKEN", "somebody-elses"),
        ("AWS_PROFILE", "somebody-elses"),
        ("AWS_ROLE_ARN", "somebody-elses"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/somebody-elses"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/somebody-elses"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "somebody-elses"),
        ("AWS_CONFIG_FILE", "/somebody-elses"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/somebody-elses"),
        ("AWS_REGION", "somebody-elses"),
        ("AWS_ENDPOINT_URL", "https://aws.example"),
    ] {
        command.env(name, value);
    }
    let running = Running::start(command).await;
    let environment = &running.environment;
    let all = format!("{environment:?}");
    for absent in ["somebody-elses", "SOMEBODY", SECRET_KEY, SESSION_TOKEN] {
        assert!(!all.contains(absent), "{absent} reached the command: {all}");
    }
    assert_eq!(environment["AWS_REGION"], "eu-central-1");
    assert_eq!(environment["AWS_DEFAULT_REGION"], "eu-central-1");
    assert_eq!(environment["AWS_EC2_METADATA_DISABLED"], "true");
    assert_eq!(environment["AWS_ENDPOINT_URL"], "https://aws.example");
    assert_eq!(environment["COUNTERSIGN_LEASE"], LEASE);
    assert!(!environment.contains_key("NO_PROXY"));
    let token_file = Path::new(&environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]);
    assert_eq!(mode(token_file), 0o600);
    assert_eq!(mode(token_file.parent().unwrap()), 0o700);
    let token = running.token();
    assert!(token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"], token);
    let config = std::fs::read_to_string(&environment["AWS_CONFIG_FILE"]).unwrap();
    assert_eq!(config, "[default]\nregion = eu-central-1\n");
    let credentials = std::fs::read(&environment["AWS_SHARED_CREDENTIALS_FILE"]).unwrap();
    assert!(credentials.is_empty());
    let url = running.url().to_owned();
    let ran = running.end().await;
    assert!(!ran.err.contains(SECRET_KEY), "{ran:?}");
    assert_nothing_left(&fake);
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the endpoint outlives its command"
    );
}

#[tokio::test]
async fn the_endpoint_hands_out_one_session_and_asks_to_be_asked_again() {
    let fake = fake().await;
    fake.tell(|script| script.lease_ms = 3_600_000);
    let running = Running::start(exec(&fake, &[], &["sh", "-c", PROGRAM])).await;
    let (status, first) = running.fetch().await;
    assert_eq!(status, 200, "{first}");
    let mut members: Vec<_> = first.as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(
        members,
        [
            "AccessKeyId",
            "AccountId",
            "Expiration",
            "SecretAccessKey",
            "Token"
        ]
    );
    assert_eq!(first["SecretAccessKey"], SECRET_KEY);
    assert_eq!(first["Token"], SESSION_TOKEN);
    assert_eq!(first["AccountId"], "123456789012");
    let until: jiff::Timestamp = first["Expiration"].as_str().unwrap().parse().unwrap();
    let ends: jiff::Timestamp = running.environment["COUNTERSIGN_EXPIRES_AT"]
        .parse()
        .unwrap();
    let ahead = ends.as_second() - until.as_second();
    assert!(
        (2_940..=3_001).contains(&ahead),
        "{first}, lease ends {ends}"
    );
    for _ in 0..20 {
        assert_eq!(running.fetch().await.1["AccessKeyId"], first["AccessKeyId"]);
    }
    running.end().await;
    let collected = fake.calls("POST /v1/requests/req_01jd0000000000000000000001/credential");
    assert_eq!(collected.len(), 1);
}

#[tokio::test]
async fn the_endpoint_answers_its_command_only() {
    let fake = fake().await;
    let running = Running::start(exec(&fake, &[], &["sh", "-c", PROGRAM])).await;
    let (url, token) = (running.url().to_owned(), running.token());
    let bare = || running.ask(Method::GET, &url);
    let with = |value: &str| bare().header(AUTHORIZATION, value);
    let right = || with(&token);
    let at = |url: String| running.ask(Method::GET, &url).header(AUTHORIZATION, &token);
    let by = |method| running.ask(method, &url).header(AUTHORIZATION, &token);
    let no_path = url.rsplit_once('/').unwrap().0.to_owned();
    let wrong = [
        (bare(), 401),
        (with(""), 401),
        (with(&token[..63]), 401),
        (with(&"0".repeat(64)), 401),
        (with(&format!("Bearer {token}")), 401),
        (right().header(AUTHORIZATION, &token), 401),
        (right().header(ORIGIN, "https://evil.example"), 403),
        (right().header(ORIGIN, "null"), 403),
        (right().header(REFERER, "https://evil.example/"), 403),
        (right().header(HOST, "evil.example"), 421),
        (right().header(HOST, "localhost"), 421),
        (by(Method::POST), 405),
        (by(Method::OPTIONS), 405),
        (at(format!("{url}?x=1")), 404),
        (at(format!("{url}/")), 404),
        (at(no_path), 404),
    ];
    for (at, (asked, status)) in wrong.into_iter().enumerate() {
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "number {at}");
        let body = answer.text().await.unwrap();
        assert!(
            !body.contains(SECRET_KEY) && body.contains("\"code\""),
            "{body}"
        );
    }
    assert_eq!(running.fetch().await.0, 200);
    running.end().await;
}

#[tokio::test]
async fn slow_and_greedy_clients_hold_nobody_up() {
    let fake = fake().await;
    let running = Running::start(exec(&fake, &[], &["sh", "-c", PROGRAM])).await;
    let address = running.url().strip_prefix("http://").unwrap();
    let address = address.split('/').next().unwrap().to_owned();
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let asked = tokio::time::timeout(Duration::from_secs(20), running.fetch());
    assert_eq!(asked.await.unwrap().0, 200);
    let mut greedy = TcpStream::connect(&address).await.unwrap();
    let header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    // It hangs up on too much; how much of that is read first does not matter.
    let _ = greedy.write_all(header.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = greedy.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(running.fetch().await.0, 200);
    running.end().await;
}

#[tokio::test]
async fn a_revoked_lease_is_refused_with_the_reason() {
    let fake = fake().await;
    let command = exec(&fake, &["--on-revoke", "warn"], &["sh", "-c", PROGRAM]);
    let mut running = Running::start(command).await;
    assert_eq!(running.fetch().await.0, 200);
    fake.tell(|script| {
        let lease = json!({"id": LEASE, "state": "cut_off", "cause": "revoked", "since": "2026-11-22T10:30:00.000Z"});
        script.request.insert("lease".into(), lease);
        script.request.insert("state".into(), json!("ending"));
    });
    running
        .until_said("access was ended early (revoked); the command goes on without it")
        .await;
    let refused = running.fetch().await;
    let message = format!(
        "lease {LEASE} was revoked at 2026-11-22T10:30:00.000Z; ask again with countersign exec"
    );
    assert_eq!(
        refused,
        (403, json!({"code": "LeaseRevoked", "message": message}))
    );
    running.end().await;
}

#[tokio::test]
async fn a_lease_that_ran_out_is_refused_with_the_reason() {
    let fake = fake().await;
    fake.tell(|script| script.lease_ms = 2_500);
    let mut running = Running::start(exec(&fake, &[], &["sh", "-c", PROGRAM])).await;
    assert_eq!(running.fetch().await.0, 200);
    running.until_said("the lease's time is over").await;
    let (status, refused) = running.fetch().await;
    assert_eq!((status, &refused["code"]), (403, &json!("LeaseExpired")));
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("lease {LEASE} ran out at 20")),
        "{message}"
    );
    running.end().await;
}

#[tokio::test]
async fn a_state_to_come_ends_nothing() {
    let fake = fake().await;
    let running = Running::start(exec(&fake, &[], &["sh", "-c", PROGRAM])).await;
    fake.tell(|script| {
        let lease = json!({"id": LEASE, "state": "dreaming", "cause": 7, "since": {}});
        script.request.insert("lease".into(), lease);
        script.request.insert("state".into(), json!("dreaming"));
        script.calls.clear();
    });
    fake.until_called("GET /v1/requests/req_01jd0000000000000000000001")
        .await;
    assert_eq!(running.fetch().await.0, 200);
    assert_eq!(running.end().await.code, Some(0));
}

#[tokio::test]
async fn access_that_is_cut_off_is_not_called_ended() {
    let fake = fake().await;
    fake.tell(|script| script.slow_end = true);
    let running = Running::start(exec(&fake, &[], &["sh", "-c", PROGRAM])).await;
    fake.set(
        "lease",
        json!({"id": LEASE, "state": "cut_off", "expires_at": "2026-11-22T10:45:00.000Z"}),
    );
    let ran = running.end().await;
    assert!(
        ran.err.contains(
            "access is cut off, as seen at the target; it ends for good at 2026-11-22T10:45:00.000Z"
        ),
        "{ran:?}"
    );
}

#[tokio::test]
async fn keys_are_in_the_environment_only_when_asked_for() {
    let fake = fake().await;
    let ran = run(exec(&fake, &["--env"], &["env"])).await;
    for line in [
        "AWS_ACCESS_KEY_ID=ASIAFAKEFAKEFAKE0001",
        &format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}"),
        &format!("AWS_SESSION_TOKEN={SESSION_TOKEN}"),
        "AWS_ACCOUNT_ID=123456789012",
        "AWS_REGION=eu-central-1",
    ] {
        assert!(
            ran.out.lines().any(|found| found == line),
            "{line}: {ran:?}"
        );
    }
    assert!(ran.out.contains("AWS_CREDENTIAL_EXPIRATION=20"), "{ran:?}");
    assert!(!ran.out.contains("AWS_CONTAINER"), "{ran:?}");
    assert!(ran.err.contains("every child process can read it") && !ran.err.contains(SECRET_KEY));
    assert_eq!(
        finished(&fake),
        json!({"outcome": "succeeded", "exit_code": 0})
    );
    assert_nothing_left(&fake);
}

#[tokio::test]
async fn the_endpoint_is_not_asked_through_a_proxy() {
    let fake = fake().await;
    let mut command = exec(&fake, &[], &["env"]);
    command
        .env("http_proxy", "http://proxy.example:3128")
        .env("NO_PROXY", "internal.example");
    let ran = run(command).await;
    for line in [
        "NO_PROXY=internal.example,127.0.0.1",
        "no_proxy=internal.example,127.0.0.1",
        "http_proxy=http://proxy.example:3128",
    ] {
        assert!(
            ran.out.lines().any(|found| found == line),
            "{line}: {ran:?}"
        );
    }
}
