//! A broker as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::place::Place;
use super::{until, within};

/// A running broker; killed with this value.
pub struct Broker {
    /// Where it is reached.
    pub base: String,
    /// What it writes to stdout and stderr, over all its starts.
    pub log: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    child: Child,
    http: Client,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Drop for Broker {
    /// What a failed test is understood by.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = read(&self.log);
            let told = log.lines().rev().filter(|line| !line.contains("answered"));
            let lines: Vec<_> = told.take(40).collect();
            for line in lines.into_iter().rev() {
                eprintln!("broker: {line}");
            }
        }
    }
}

impl Broker {
    /// Starts `countersign dev` and waits until it serves and the target is enabled.
    pub async fn dev(place: &Place) -> Self {
        Self::dev_in(&place.dir, place.base(), Vec::new()).await
    }

    /// Starts `countersign dev` on a directory, with more in its environment.
    pub async fn dev_in(
        dir: &Path,
        base: String,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let path = dir.to_str().unwrap().to_owned();
        let arguments = vec!["dev".into(), path, "--log".into(), "trace".into()];
        Self::start(arguments, environment, base, &dir.join("../broker.log")).await
    }

    /// Starts `countersign serve` with a configuration of its own.
    pub async fn serve(config: &Path, base: String, log: &Path) -> Self {
        Self::serve_with(config, Vec::new(), base, log).await
    }

    /// The same, with more in its environment.
    pub async fn serve_with(
        config: &Path,
        environment: Vec<(&'static str, String)>,
        base: String,
        log: &Path,
    ) -> Self {
        let config = config.to_str().unwrap().to_owned();
        let arguments = ["serve", "--config", &config, "--log", "trace"];
        let arguments = arguments.map(String::from).into();
        Self::start(arguments, environment, base, log).await
    }

    async fn start(
        arguments: Vec<String>,
        environment: Vec<(&'static str, String)>,
        base: String,
        log: &Path,
    ) -> Self {
        let mut broker = Self {
            child: spawn(&arguments, &environment, log),
            base,
            log: log.to_owned(),
            arguments,
            environment,
            http: client(),
        };
        broker.ready().await;
        broker
    }

    /// The same again, after it ended.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.arguments, &self.environment, &self.log);
        self.ready().await;
    }

    /// The same, when it must not believe its store: why not.
    pub async fn start_in_doubt(&mut self) -> String {
        self.child = spawn(&self.arguments, &self.environment, &self.log);
        until("the broker does not believe its store", async || {
            let url = format!("{}/readyz", self.base);
            let answer = self.http.get(&url).send().await.ok()?;
            let problem: Value = answer.json().await.ok()?;
            let doubts = problem["code"] == "ledger_in_doubt";
            doubts.then(|| problem["detail"].as_str().unwrap().to_owned())
        })
        .await
    }

    async fn ready(&mut self) {
        let url = format!("{}/readyz", self.base);
        let (http, child, log) = (&self.http, &mut self.child, &self.log);
        until("the broker serves", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the broker ended with {status}: {}", read(log));
            }
            let answer = http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// SIGKILL, in the middle of whatever it does.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        let id = self.child.id().unwrap().try_into().unwrap();
        kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.expect("the broker does not stop").unwrap()
    }

    fn call(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let call = self.http.request(method, format!("{}{path}", self.base));
        call.bearer_auth(token)
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        send(self.call(Method::GET, path, token)).await
    }

    /// A POST with a new idempotency key.
    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        send(self.posting(path, token, body)).await
    }

    /// A POST that waits until what it started is over.
    pub async fn post_and_wait(&self, path: &str, token: &str, body: &Value) -> Answer {
        send(self.posting(path, token, body).header("prefer", "wait=30")).await
    }

    fn posting(&self, path: &str, token: &str, body: &Value) -> RequestBuilder {
        let call = self.call(Method::POST, path, token);
        call.header("idempotency-key", new_key()).json(body)
    }

    /// Asks for an action; the request object.
    pub async fn ask(&self, token: &str, body: &Value) -> Value {
        let answer = self.post("/v1/requests", token, body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.body
    }

    /// Asks for the routine report, for `ttl` seconds.
    pub async fn ask_for_report(&self, ttl: u64) -> Value {
        let body = json!({"action": "orders.report", "ttl_seconds": ttl});
        self.ask(super::REPORTER, &body).await
    }

    /// Collects the credential of a request, and says that it arrived.
    pub async fn collect(&self, token: &str, request: &Value) -> Answer {
        let path = format!("/v1/requests/{}/credential", id(request));
        let collected = self.post(&path, token, &json!({})).await;
        if collected.status == StatusCode::OK {
            let path = format!("/v1/leases/{}/acknowledge", id(&collected.body["lease"]));
            self.post(&path, token, &json!({})).await;
        }
        collected
    }

    /// A live routine lease and its credential.
    pub async fn live(&self, ttl: u64) -> (Value, Value) {
        let request = self.ask_for_report(ttl).await;
        let collected = self.collect(super::REPORTER, &request).await;
        assert_eq!(collected.status, StatusCode::OK, "{collected:?}");
        let credential = collected.body["credential"].clone();
        (collected.body["request"].clone(), credential)
    }

    /// Reports success and waits until access has ended.
    pub async fn finish(&self, token: &str, request: &Value) -> Value {
        let path = format!("/v1/requests/{}/finish", id(request));
        let report = json!({"outcome": "succeeded"});
        let answer = self.post_and_wait(&path, token, &report).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body
    }

    /// The request as it is now.
    pub async fn request(&self, token: &str, request: &Value) -> Value {
        let path = format!("/v1/requests/{}", id(request));
        self.get(&path, token).await.body
    }

    /// Waits until a request is closed; how it was.
    pub async fn closed(&self, deadline: Duration, token: &str, request: &Value) -> String {
        within(deadline, "the request closes", async || {
            let request = self.request(token, request).await;
            (request["state"] == "closed").then(|| request["outcome"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// The ledger's entries, as their canonical text.
    pub async fn ledger(&self, operator: &str) -> Vec<String> {
        let mut entries = Vec::new();
        loop {
            let path = format!("/v1/ledger/entries?from={}&limit=200", entries.len());
            let page = self.get(&path, operator).await.body;
            let data = page["data"].as_array().unwrap();
            entries.extend(data.iter().map(|e| e["entry"].as_str().unwrap().to_owned()));
            if page["next"].is_null() {
                return entries;
            }
        }
    }
}

/// The id of a request object.
pub fn id(request: &Value) -> &str {
    request["id"].as_str().unwrap()
}

/// An idempotency key nobody else uses.
pub fn new_key() -> String {
    use countersign::system::{Entropy as _, SystemEntropy};
    let mut bytes = [0; 16];
    SystemEntropy.fill(&mut bytes);
    hex::encode(bytes)
}

/// It gives idle connections up before the broker does.
fn client() -> Client {
    let builder = Client::builder().pool_idle_timeout(Duration::from_secs(3));
    builder.build().unwrap()
}

async fn send(call: RequestBuilder) -> Answer {
    let answer = call.timeout(Duration::from_secs(60)).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, body }
}

/// Starts the program with its output appended to `log`.
fn spawn(arguments: &[String], environment: &[(&'static str, String)], log: &Path) -> Child {
    let out = File::options().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(arguments)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned()
}
