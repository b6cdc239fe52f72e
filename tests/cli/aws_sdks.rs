//! The real boto3 and AWS CLI: they take the session from `exec`'s endpoint and from `aws-credentials`, and show why it ended.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::exec::{end, start};
use super::fake::{Fake, LEASE, REQUEST, SECRET_KEY, SESSION_TOKEN};
use super::{countersign, run, until_said};
use crate::support::aws_clients;

/// Calls AWS five times and says how often a credential was fetched; once told, calls again and shows the error.
const BOTO3: &str = r#"
import sys, boto3, botocore.utils
from botocore.exceptions import CredentialRetrievalError
fetches = 0
original = botocore.utils.ContainerMetadataFetcher.retrieve_full_uri
def counted(*arguments, **named):
    global fetches
    fetches += 1
    return original(*arguments, **named)
botocore.utils.ContainerMetadataFetcher.retrieve_full_uri = counted
sts = boto3.client("sts")
for _ in range(5):
    assert sts.get_caller_identity()["Account"] == "123456789012"
print("ready", flush=True)
sys.stdin.readline()
try:
    sts.get_caller_identity()
except CredentialRetrievalError as error:
    print("refused", error)
print("fetches", fetches)
"#;

async fn fake() -> Fake {
    let fake = Fake::start("approved").await;
    fake.tell(|script| {
        script.aws = true;
        script.lease_ms = 3_600_000;
    });
    fake
}

/// As somebody has it whose own settings and credentials would be used first.
fn with_clients(fake: &Fake, mut command: Command) -> Command {
    let home = fake.path("home");
    std::fs::create_dir_all(home.join(".aws")).unwrap();
    let own = "[default]\naws_access_key_id = AKIASOMEBODYELSES\naws_secret_access_key = somebody-elses\n";
    std::fs::write(home.join(".aws/credentials"), own).unwrap();
    let path = format!("{}:/usr/bin:/bin", aws_clients().display());
    command
        .env("PATH", path)
        .env("HOME", home)
        .env("AWS_ENDPOINT_URL", &fake.address)
        .env("http_proxy", "http://127.0.0.1:1")
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::piped());
    command
}

fn exec(fake: &Fake, command: &[&str]) -> Command {
    let mut arguments = vec![
        "exec",
        "orders.report",
        "-p",
        "days=7",
        "--on-revoke",
        "warn",
        "--",
    ];
    arguments.extend(command);
    with_clients(fake, countersign(fake, &arguments))
}

/// An SDK's program, with a profile whose `credential_process` is ours.
fn with_profile(fake: &Fake, program: &str, arguments: &[&str]) -> Command {
    let process = format!(
        "{} aws-credentials orders.report -p days=7 --reason \"monthly report\"",
        env!("CARGO_BIN_EXE_countersign")
    );
    let config =
        format!("[profile reports]\nregion = eu-central-1\ncredential_process = {process}\n");
    std::fs::write(fake.path("config"), config).unwrap();
    // Joined with an absolute path it is that path.
    let mut command = Command::new(aws_clients().join(program));
    let ours = countersign(fake, &[]);
    let variables: Vec<_> = ours
        .as_std()
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command
        .args(arguments)
        .env_clear()
        .envs(variables)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut command = with_clients(fake, command);
    command
        .env("AWS_CONFIG_FILE", fake.path("config"))
        .env("AWS_PROFILE", "reports");
    command
}

fn revoke(fake: &Fake) {
    fake.tell(|script| {
        let lease = json!({"id": LEASE, "state": "cut_off", "cause": "revoked", "since": "2026-11-22T10:30:00.000Z"});
        script.request.insert("lease".into(), lease);
        script.request.insert("state".into(), json!("ending"));
    });
}

/// Every call to AWS was signed with the lease's session.
fn assert_signed_with_the_lease(fake: &Fake, calls: usize) {
    let signed = fake.calls("POST /");
    assert_eq!(signed.len(), calls);
    for call in signed {
        assert!(
            call.authorization
                .contains("Credential=ASIAFAKEFAKEFAKE0001/"),
            "{call:?}"
        );
    }
}

#[tokio::test]
async fn boto3_in_exec_asks_before_every_call_and_shows_why_it_is_refused() {
    let fake = fake().await;
    std::fs::write(fake.path("program.py"), BOTO3).unwrap();
    let program = fake.path("program.py");
    let command = exec(&fake, &["python", program.to_str().unwrap()]);
    let (mut child, out) = start(command).await;
    revoke(&fake);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    until_said(&mut err, "goes on without it").await;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"go\n")
        .await
        .unwrap();
    let ran = end(child, out).await;
    let reason = format!(
        "lease {LEASE} was revoked at 2026-11-22T10:30:00.000Z; ask again with countersign exec"
    );
    assert!(
        ran.out.contains("refused") && ran.out.contains(&reason),
        "{ran:?}"
    );
    // One to start with and one before each of the five calls; then the one that was refused.
    let fetches = ran.out.lines().last().unwrap();
    assert_eq!(fetches, "fetches 7", "{ran:?}");
    assert_signed_with_the_lease(&fake, 5);
}

#[tokio::test]
async fn the_aws_cli_in_exec_is_refused_with_the_reason() {
    let fake = fake().await;
    let program = "aws sts get-caller-identity >/dev/null && echo ready && read line; aws sts get-caller-identity";
    let (mut child, out) = start(exec(&fake, &["sh", "-c", program])).await;
    revoke(&fake);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    until_said(&mut err, "goes on without it").await;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"go\n")
        .await
        .unwrap();
    let mut rest = String::new();
    err.read_to_string(&mut rest).await.unwrap();
    let ran = end(child, out).await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(
        rest.contains("LeaseRevoked") && rest.contains("was revoked at 2026-11-22T10:30:00.000Z"),
        "{rest}"
    );
    assert_signed_with_the_lease(&fake, 1);
}

#[tokio::test]
async fn boto3_with_a_profile_asks_before_every_call_and_shows_why_it_is_refused() {
    let fake = fake().await;
    let program = BOTO3.replace(
        "sys.stdin.readline()",
        "print('told', flush=True); sys.stdin.readline()",
    );
    std::fs::write(fake.path("program.py"), program).unwrap();
    let path = fake.path("program.py");
    let (mut child, out) = start(with_profile(&fake, "python", &[path.to_str().unwrap()])).await;
    let asked = fake.calls(&format!("GET /v1/requests/{REQUEST}")).len();
    assert!(
        asked >= 6,
        "the broker was asked {asked} times for five calls"
    );
    revoke(&fake);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"go\n")
        .await
        .unwrap();
    let ran = end(child, out).await;
    assert!(
        ran.out.contains("refused")
            && ran
                .out
                .contains("was revoked at 2026-11-22T10:30:00.000Z; nobody is asked again"),
        "{ran:?}"
    );
    assert_eq!(fake.calls("POST /v1/requests").len(), 1);
    assert_signed_with_the_lease(&fake, 5);
}

#[tokio::test]
async fn the_aws_cli_with_a_profile_reuses_the_lease_and_shows_why_it_is_refused() {
    let fake = fake().await;
    let identity = ["sts", "get-caller-identity"];
    for _ in 0..2 {
        let ran = run(with_profile(&fake, "aws", &identity)).await;
        assert!(
            ran.code == Some(0) && ran.out.contains("123456789012"),
            "{ran:?}"
        );
    }
    assert_eq!(fake.calls("POST /v1/requests").len(), 1);
    assert_signed_with_the_lease(&fake, 2);
    revoke(&fake);
    for _ in 0..2 {
        let ran = run(with_profile(&fake, "aws", &identity)).await;
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.err.contains("was revoked at 2026-11-22T10:30:00.000Z"),
            "{ran:?}"
        );
        assert!(!ran.err.contains(SECRET_KEY) && !ran.err.contains(SESSION_TOKEN));
    }
    assert_eq!(fake.calls("POST /v1/requests").len(), 1);
}

/// Debian's is older than files with tokens.
#[tokio::test]
async fn finding_t23_botocore_of_debian_works_in_every_way() {
    let program = "import boto3, os; sts = boto3.client('sts', endpoint_url=os.environ['AWS_ENDPOINT_URL']); \
                   print(sts.get_caller_identity()['Account'])";
    let debian = "/usr/bin/python3";
    let fake = fake().await;
    fake.tell(|script| script.starts_anew = Some("approved"));
    let endpoint = exec(&fake, &[debian, "-c", program]);
    let arguments = [
        "exec",
        "orders.report",
        "-p",
        "days=7",
        "--env",
        "--",
        debian,
        "-c",
        program,
    ];
    let environment = with_clients(&fake, countersign(&fake, &arguments));
    let profile = with_profile(&fake, debian, &["-c", program]);
    for command in [endpoint, environment, profile] {
        let ran = run(command).await;
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(0), "123456789012\n"),
            "{ran:?}"
        );
    }
    assert_signed_with_the_lease(&fake, 3);
}

#[tokio::test]
async fn the_aws_cli_shows_where_a_pending_request_is_decided() {
    let fake = Fake::start("pending").await;
    let mut command = with_profile(&fake, "aws", &["sts", "get-caller-identity"]);
    let config = std::fs::read_to_string(fake.path("config")).unwrap();
    std::fs::write(
        fake.path("config"),
        config.replace("-p days=7", "-p days=7 --wait 1s"),
    )
    .unwrap();
    command.env("AWS_CONFIG_FILE", Path::new(&fake.path("config")));
    let ran = run(command).await;
    assert!(
        ran.err
            .contains("waits for 1 of dba, at https://broker.example/requests/"),
        "{ran:?}"
    );
}
