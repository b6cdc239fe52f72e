//! A proxy between a broker and AWS. It passes everything on, and meddles with what it is told to: IAM that takes its
//! time, answers that get lost, and a broker that leaves out one of its safeguards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::{Url, form_urlencoded};

use super::{Answer, Caller, Corner, Keys};

/// What is done to the broker's calls.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Meddling {
    /// Nothing.
    #[default]
    None,
    /// IAM shows a guard's new version at once, but judges by it only after a while.
    LateGuard(Duration),
    /// IAM shows a guard's new version and never judges by it: as if nothing were ever written.
    NoGuard,
    /// Sessions are made without the statement that ends them.
    NoFence,
    /// Sessions are made without any policy of their own.
    NoSessionPolicy,
    /// AWS never hears of calls of this action; they hang.
    HoldCalls(&'static str),
    /// AWS does what calls of this action ask for; their answers hang.
    HoldAnswers(&'static str),
    /// The canary's call of this number, counted from the first, is let through, as by a place that has not heard yet.
    LetsThrough(usize),
    /// Sessions are made in another account.
    Elsewhere,
    /// AWS is busy: calls of this action are throttled.
    Throttle(&'static str),
}

/// The proxy; gone with this value.
pub struct Meddler {
    /// Where it is entered.
    pub url: Url,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    broker: Caller,
    root: Caller,
    meddling: watch::Sender<Meddling>,
    /// How many calls hang, or hung.
    held: watch::Sender<usize>,
    /// How many calls of each action came.
    calls: Mutex<BTreeMap<String, usize>>,
    /// The version each guard is said to judge by.
    said: Mutex<BTreeMap<String, String>>,
    /// The first session made of each name.
    sessions: Mutex<BTreeMap<String, Keys>>,
    /// What takes effect later.
    late: Mutex<JoinSet<()>>,
    http: reqwest::Client,
}

impl Meddler {
    /// In front of AWS, for the broker of this corner.
    pub async fn before(corner: &Corner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            broker: corner.broker.clone(),
            root: corner.root.clone(),
            meddling: watch::channel(Meddling::None).0,
            held: watch::channel(0).0,
            calls: Mutex::default(),
            said: Mutex::default(),
            sessions: Mutex::default(),
            late: Mutex::default(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url: url.parse().unwrap(),
            shared,
            _server: server,
        }
    }

    /// From now on, this. Calls that hang are let go.
    pub fn meddle(&self, meddling: Meddling) {
        self.shared.held.send_replace(0);
        self.shared.meddling.send_replace(meddling);
    }

    /// Waits until a call hangs.
    pub async fn holds(&self) {
        let mut held = self.shared.held.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), held.wait_for(|held| *held > 0));
        waited.await.expect("no such call came").unwrap();
    }

    /// The keys AWS made for a lease, whoever got to see them.
    pub fn minted(&self, lease: &str) -> Option<Caller> {
        let sessions = self.shared.sessions.lock().unwrap();
        let keys = sessions.get(lease).cloned();
        keys.map(|keys| self.shared.root.with(keys))
    }

    /// Names of the leases AWS has made sessions for.
    pub fn leases(&self) -> Vec<String> {
        let sessions = self.shared.sessions.lock().unwrap();
        let names = sessions.keys().filter(|name| !name.contains('-'));
        names.cloned().collect()
    }

    /// How many calls of an action have come so far.
    pub fn calls(&self, action: &str) -> usize {
        let calls = self.shared.calls.lock().unwrap();
        calls.get(action).copied().unwrap_or(0)
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let form: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let (action, session) = (field("Action"), field("RoleSessionName"));
    let number = shared.count(&action);
    let meddling = *shared.meddling.borrow();
    if matches!(meddling, Meddling::HoldCalls(of) if of == action) {
        shared.hang(meddling).await;
    }
    if matches!(meddling, Meddling::Throttle(of) if of == action) {
        let busy = "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
        return answered(400, busy.into());
    }
    if action == "ListQueues" && meddling == Meddling::LetsThrough(number) {
        let nothing = "<ListQueuesResponse><ListQueuesResult/></ListQueuesResponse>";
        return answered(200, nothing.into());
    }
    let answer = match (action.as_str(), meddling) {
        ("AssumeRole", Meddling::Elsewhere) => {
            let mut answer = shared.forward(&head, body).await;
            answer.text = answer.text.replace(super::ACCOUNT, "999999999999");
            answer
        }
        ("CreatePolicyVersion", Meddling::LateGuard(by)) => shared.create(form, Some(by)).await,
        ("CreatePolicyVersion", Meddling::NoGuard) => shared.create(form, None).await,
        ("AssumeRole", Meddling::NoFence) => shared.assume(form, without_fence).await,
        ("AssumeRole", Meddling::NoSessionPolicy) => shared.assume(form, |_| None).await,
        _ => {
            let answer = shared.forward(&head, body).await;
            shared.as_said(&form, answer)
        }
    };
    if action == "AssumeRole" && answer.allowed() {
        let mut sessions = shared.sessions.lock().unwrap();
        sessions
            .entry(session)
            .or_insert_with(|| Keys::assumed(&answer));
    }
    if matches!(meddling, Meddling::HoldAnswers(of) if of == action) {
        shared.hang(meddling).await;
    }
    answered(answer.status, answer.text)
}

fn answered(status: u16, text: String) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    (status, [("content-type", "text/xml")], text).into_response()
}

/// A session policy without the statement that ends the session.
fn without_fence(policy: &str) -> Option<String> {
    let mut policy: Value = serde_json::from_str(policy).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    statements.retain(|statement| !statement.to_string().contains("aws:CurrentTime"));
    Some(policy.to_string())
}

impl Shared {
    /// Counts a call of this action; how many there were.
    fn count(&self, action: &str) -> usize {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry(action.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Waits until the meddling is another one, or for ever.
    async fn hang(&self, meddling: Meddling) {
        let mut now = self.meddling.subscribe();
        self.held.send_modify(|held| *held += 1);
        let _ = now.wait_for(|now| *now != meddling).await;
    }

    /// The call as it came: what its caller signed, host name included, stays as it was.
    async fn forward(&self, head: &axum::http::request::Parts, body: Bytes) -> Answer {
        let target = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = self.broker.url.join(target).unwrap();
        let mut call = self.http.request(head.method.clone(), url).body(body);
        for (name, value) in &head.headers {
            if !["connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
                call = call.header(name, value);
            }
        }
        let answer = call.send().await.unwrap();
        Answer {
            status: answer.status().as_u16(),
            text: answer.text().await.unwrap(),
        }
    }

    /// A guard's new version, which the broker is told is in force.
    async fn create(&self, mut form: BTreeMap<String, String>, by: Option<Duration>) -> Answer {
        form.insert("SetAsDefault".into(), "false".into());
        let answer = self.broker.form("iam", encoded(&form)).await;
        if !answer.allowed() {
            return answer;
        }
        let (arn, version) = (form["PolicyArn"].clone(), answer.element("VersionId"));
        self.said
            .lock()
            .unwrap()
            .insert(arn.clone(), version.clone());
        if let Some(by) = by {
            let root = self.root.clone();
            let document = form["PolicyDocument"].clone();
            self.late.lock().unwrap().spawn(async move {
                tokio::time::sleep(by).await;
                put_in_force(&root, &arn, &version, &document).await;
            });
        }
        self.as_said(&form, answer)
    }

    /// The answer, with the version that is said to be in force.
    fn as_said(&self, form: &BTreeMap<String, String>, mut answer: Answer) -> Answer {
        let said = self.said.lock().unwrap();
        if let Some(version) = form.get("PolicyArn").and_then(|arn| said.get(arn)) {
            let mark = |is| format!("<VersionId>{version}</VersionId><IsDefaultVersion>{is}");
            let none = answer
                .text
                .replace("<IsDefaultVersion>true", "<IsDefaultVersion>false");
            answer.text = none.replace(&mark("false"), &mark("true"));
        }
        answer
    }

    /// A session with another policy than the broker asked for.
    async fn assume(
        &self,
        mut form: BTreeMap<String, String>,
        change: impl Fn(&str) -> Option<String>,
    ) -> Answer {
        if let Some(policy) = form.remove("Policy") {
            form.extend(change(&policy).map(|policy| ("Policy".to_owned(), policy)));
        }
        self.broker.form("sts", encoded(&form)).await
    }
}

fn encoded(form: &BTreeMap<String, String>) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(form).finish()
}

/// Puts a guard's newest version in force. The emulator knows no SetDefaultPolicyVersion, but gives the number of a
/// newest version that was deleted to the next one.
async fn put_in_force(root: &Caller, arn: &str, version: &str, document: &str) {
    let fields = [("PolicyArn", arn), ("VersionId", version)];
    root.iam("DeletePolicyVersion", &fields).await.fine();
    let fields = [
        ("PolicyArn", arn),
        ("PolicyDocument", document),
        ("SetAsDefault", "true"),
    ];
    let made = root.iam("CreatePolicyVersion", &fields).await.fine();
    assert_eq!(made.element("VersionId"), version);
}
