//! Real clients of AWS, as agents run them: boto3 and the AWS CLI inside `exec`, and as a `credential_process`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::place::AwsPlace;
use super::{DAY, EXPORTER};
use crate::e2e::broker::{Broker, id};
use crate::e2e::cli::{countersign, run};
use crate::support::aws::aws;
use crate::support::aws_clients;

/// Puts objects until it is told why it gets no credentials any more. AWS, which denies without saying why, may be first.
const WRITER: &str = "
import boto3, os, sys, time
s3 = boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL'])
bucket, day = sys.argv[1:]
for number in range(600):
    try:
        s3.put_object(Bucket=bucket, Key=f'daily/{day}/{number}', Body=b'rows')
        print('put', number, flush=True)
    except Exception as refusal:
        if 'AccessDenied' not in str(refusal):
            print('refused:', refusal, flush=True)
            sys.exit(9)
    time.sleep(0.1)
";

fn exec(broker: &Broker, command: &[&str]) -> Command {
    let day = format!("day={DAY}");
    let mut arguments = vec![
        "exec",
        "exports.write",
        "--on-revoke",
        "warn",
        "--param",
        &day,
        "--reason",
        "nightly",
    ];
    arguments.push("--");
    arguments.extend(command);
    let mut exec = countersign(&broker.base, EXPORTER, &arguments);
    exec.env("AWS_ENDPOINT_URL", aws().as_str());
    exec
}

/// Where the broker and the emulator are, and nothing else that an SDK could go by.
fn profile(place: &AwsPlace, broker: &Broker) -> Vec<(&'static str, String)> {
    let config = place.dir.join("../aws-config");
    let program = env!("CARGO_BIN_EXE_countersign");
    let text = format!(
        "[default]\nregion = eu-central-1\ncredential_process = {program} aws-credentials exports.write --param day={DAY} --reason nightly\n"
    );
    std::fs::write(&config, text).unwrap();
    vec![
        ("AWS_CONFIG_FILE", config.to_str().unwrap().to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("AWS_ENDPOINT_URL", aws().to_string()),
        ("COUNTERSIGN_ADDR", broker.base.clone()),
        ("COUNTERSIGN_TOKEN", EXPORTER.into()),
        ("HOME", place.dir.to_str().unwrap().to_owned()),
        ("XDG_RUNTIME_DIR", place.dir.to_str().unwrap().to_owned()),
        ("PATH", "/usr/bin:/bin".into()),
    ]
}

fn writer(place: &AwsPlace) -> PathBuf {
    let script = place.dir.join("../writer.py");
    std::fs::write(&script, WRITER).unwrap();
    script
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn revoke_the_only_lease(place: &AwsPlace, broker: &Broker) {
    let operator = place.operator();
    let leases = broker.get("/v1/leases", &operator).await.body;
    let path = format!("/v1/leases/{}/revoke", id(&leases["data"][0]));
    let cut = broker.post_and_wait(&path, &operator, &json!({})).await;
    assert_eq!(cut.body["lease"]["state"], "cut_off", "{cut:?}");
}

/// Waits until the writer has put something, revokes its lease, and reads what else it says until it ends.
async fn revoked_mid_way(
    place: &AwsPlace,
    broker: &Broker,
    mut writer: Child,
) -> (Option<i32>, String) {
    let mut out = BufReader::new(writer.stdout.take().unwrap());
    let mut line = String::new();
    let said = tokio::time::timeout(Duration::from_secs(30), out.read_line(&mut line));
    said.await.expect("the writer never wrote").unwrap();
    assert_eq!(line, "put 0\n");
    revoke_the_only_lease(place, broker).await;
    let mut said = String::new();
    let mut err = writer.stderr.take().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        out.read_to_string(&mut said).await.unwrap();
        err.read_to_string(&mut said).await.unwrap();
        writer.wait().await.unwrap()
    });
    let ended = ended.await.expect("the writer goes on");
    (ended.code(), said)
}

#[tokio::test]
async fn l04_boto3_inside_exec_is_cut_off_when_its_lease_is_revoked() {
    boto3_inside_exec(&aws_clients().join("python")).await;
}

/// The distribution's own: botocore 1.29.27 on Debian 12, which knows no token file.
#[tokio::test]
async fn finding_t23_botocore_of_debian_12_inside_exec_works_and_is_cut_off() {
    boto3_inside_exec(Path::new("/usr/bin/python3")).await;
}

async fn boto3_inside_exec(python: &Path) {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let script = writer(&place);
    let command = [text(python), text(&script), &place.bucket, DAY];
    let child = exec(&broker, &command).spawn().unwrap();
    let (code, said) = revoked_mid_way(&place, &broker, child).await;
    assert_eq!(code, Some(9), "{said}");
    assert!(said.contains("refused:"), "{said}");
    assert!(said.contains("was revoked at"), "{said}");
}

#[tokio::test]
async fn the_aws_cli_inside_exec_writes_where_it_may_and_is_told_where_not() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let cli = aws_clients().join("aws");
    let to = |key: &str| format!("s3://{}/{key}", place.bucket);
    let file = place.dir.join("countersign.toml");
    let copy = |to: String| {
        exec(
            &broker,
            &[
                text(&cli),
                "s3",
                "cp",
                "--only-show-errors",
                text(&file),
                &to,
            ],
        )
    };
    run(copy(to(&format!("daily/{DAY}/report")))).await.fine();
    let refused = run(copy(to("daily/2026-11-23/report"))).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.err.contains("AccessDenied"), "{refused:?}");
}

#[tokio::test]
async fn l04_boto3_with_a_credential_process_is_cut_off_and_says_why() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let child = Command::new(aws_clients().join("python"))
        .arg(writer(&place))
        .args([&place.bucket, DAY])
        .env_clear()
        .envs(profile(&place, &broker))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (code, said) = revoked_mid_way(&place, &broker, child).await;
    assert_eq!(code, Some(9), "{said}");
    assert!(
        said.contains("refused:") && said.contains("revoked"),
        "{said}"
    );
}

#[tokio::test]
async fn l04_the_aws_cli_with_a_credential_process_says_why_it_got_none() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let put = || {
        let mut cli = Command::new(aws_clients().join("aws"));
        cli.args(["s3", "cp", "--only-show-errors"])
            .arg(place.dir.join("countersign.toml"))
            .arg(format!("s3://{}/daily/{DAY}/report", place.bucket))
            .env_clear()
            .envs(profile(&place, &broker))
            .stdin(Stdio::null());
        cli
    };
    run(put()).await.fine();
    revoke_the_only_lease(&place, &broker).await;
    let refused = run(put()).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.err.contains("revoked"), "{refused:?}");
}
