//! What the benches share: a broker on a real store, the shop's bundle, and a table of what was measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use countersign::broker::{Broker, Loaded, NewRequest, Ports};
use countersign::config::Config;
use countersign::domain::rules::Limits;
use countersign::domain::{Digest, Explanation, Proof, Seconds, ServerId, TargetName, Targets};
use countersign::issuers::postgres::PostgresIssuer;
use countersign::issuers::{
    Credential, Deployment, EndError, Ending, Found, Issuer, IssuerSet, MintError, MintOrder,
    Rehearsal, declare,
};
use countersign::ledger::SigningKey;
use countersign::policy::{Bundle, Document, is_bundle_file};
use countersign::store::{KnownHead, Store};
use countersign::system::{Entropy, SystemClock, SystemEntropy};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

#[path = "table.rs"]
mod table;

pub use table::{row, table};

/// The log's origin.
pub const ORIGIN: &str = "bench.example/ledger";

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory on the disk the build is on, not one that is memory in disguise.
pub fn directory() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// A signing key.
pub fn key() -> anyhow::Result<SigningKey> {
    Ok(SigningKey::generate(ORIGIN, |seed| {
        SystemEntropy.fill(seed);
    })?)
}

/// The shop's configuration.
fn config() -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(root().join("examples/shop/countersign.toml"))?;
    Ok(Config::parse(&text)?)
}

/// The shop's target, as its configuration says; nothing connects to it.
fn targets() -> anyhow::Result<Arc<dyn Targets>> {
    let config = config()?;
    let mut issuers: BTreeMap<TargetName, Arc<dyn Issuer>> = BTreeMap::new();
    for (name, target) in config.targets {
        let countersign::config::TargetConfig::Postgres(target) = target else {
            unreachable!("the bench mints on PostgreSQL");
        };
        let (entropy, clock) = (Arc::new(SystemEntropy), Arc::new(SystemClock::start()));
        let deployment = Deployment::of("benchmark");
        let password = "unused".into();
        let issuer =
            PostgresIssuer::new(&name, &target, password, None, entropy, clock, deployment);
        issuers.insert(name, Arc::new(issuer.map_err(anyhow::Error::msg)?));
    }
    Ok(Arc::new(IssuerSet(issuers)))
}

/// A target that says which server it is and is asked for nothing else.
struct Silent;

#[async_trait::async_trait]
impl Issuer for Silent {
    fn check_scope(&self, _: &Value) -> Result<(), String> {
        Ok(())
    }

    fn longest_ttl(&self) -> Seconds {
        Seconds(3600)
    }

    fn explain(&self, scope: &Value, _: Seconds) -> Explanation {
        Explanation {
            words: Vec::new(),
            exact: scope.to_string(),
            ending: Vec::new(),
            outlives: Vec::new(),
        }
    }

    async fn rehearse(&self, _: &[Value]) -> Result<Rehearsal, EndError> {
        Ok(Rehearsal::default())
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        "no server".parse().map_err(|_| silence())
    }

    async fn mint(&self, _: &MintOrder) -> Result<Credential, MintError> {
        Err(MintError::Unavailable {
            detail: "the bench mints nothing".into(),
        })
    }

    async fn end(&self, _: &Ending<'_>) -> Result<(), EndError> {
        Err(silence())
    }

    async fn prove(&self, _: &Ending<'_>) -> Result<Proof, EndError> {
        Err(silence())
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        Ok(Vec::new())
    }
}

fn silence() -> EndError {
    EndError {
        code: "silent".into(),
        detail: "the bench ends nothing".into(),
    }
}

fn shop_files() -> anyhow::Result<BTreeMap<String, String>> {
    let shop = root().join("examples/shop");
    let mut files = BTreeMap::new();
    for folder in ["catalog", "policies"] {
        for file in std::fs::read_dir(shop.join(folder))? {
            let path = file?.path();
            let name = path.strip_prefix(&shop)?.to_string_lossy().into_owned();
            if is_bundle_file(&name) && !name.ends_with("tests.toml") {
                files.insert(name, std::fs::read_to_string(path)?);
            }
        }
    }
    Ok(files)
}

/// The shop's bundle with `more` policies about other agents: half of them about the very action the
/// bench asks for, the rest about a hundred other actions.
fn with_more_policies(files: &mut BTreeMap<String, String>, more: usize) {
    let (mut catalog, mut policies) = (String::new(), String::new());
    for n in 0..100.min(more) {
        catalog.push_str(&format!(
            "[actions.\"job.n{n}\"]\ntitle = \"Job {n}\"\ndescription = \"One of many jobs.\"\ntarget = \"shop\"\n\
             ttl = {{ default = \"5m\", longest = \"10m\" }}\nscope = {{ roles = [\"countersign_orders_ro\"] }}\n\
             review = {{ groups = {{ support-leads = 1 }} }}\n\
             [agents.bot-{n}]\nowner = \"dev:ana\"\n[agents.bot-{n}.proof]\nkind = \"api_key_sha256\"\nhash = \"{}\"\n",
            Digest::of(format!("bot-{n}").as_bytes()),
        ));
    }
    for n in 0..more {
        let question = if n % 4 < 2 { "request" } else { "routine" };
        let action = match n % 2 {
            0 => "orders.report".to_owned(),
            _ => format!("job.n{}", n % 100),
        };
        policies.push_str(&format!(
            "@id(\"more-{n}\")\npermit (principal == Agent::\"bot-{}\", action == Action::\"{question}:{action}\", \
             resource) when {{ context.ttl_seconds <= {} }};\n",
            n / 2 % 100,
            300 + n,
        ));
    }
    files.insert("catalog/more.toml".into(), catalog);
    files.insert("policies/more.cedar".into(), policies);
}

/// The parts of a broker on `store` with the shop's bundle, grown to at least `policies` policies.
pub fn ports(
    store: Arc<dyn Store>,
    known_head: Arc<dyn KnownHead>,
    policies: usize,
) -> anyhow::Result<(Ports, usize)> {
    let people = BTreeMap::from([("dev".to_owned(), "https://people.example".to_owned())]);
    let (targets, declared) = (targets()?, declare(&config()?).map_err(anyhow::Error::msg)?);
    let mut files = shop_files()?;
    let compile = |files: &BTreeMap<String, String>| {
        let document = Document {
            files: files.clone(),
            people: people.clone(),
            targets: declared.clone(),
            limits: Limits {
                open_requests_per_agent: 1_000_000_000,
                ..Limits::default()
            },
        };
        Bundle::compile(&document, targets.as_ref())
            .map_err(|mistakes| anyhow!("the bundle has mistakes: {mistakes:#?}"))
    };
    let mut bundle = compile(&files)?;
    if let Some(more) = policies
        .checked_sub(bundle.policy_count())
        .filter(|more| *more > 0)
    {
        with_more_policies(&mut files, more);
        bundle = compile(&files)?;
    }
    let count = bundle.policy_count();
    let bundle_bytes = bundle.bytes().to_vec();
    let bundle = Loaded {
        policy: Arc::new(bundle),
        targets: Arc::clone(&targets) as Arc<dyn Targets>,
    };
    let loaded = bundle.clone();
    let ports = Ports {
        store,
        known_head,
        bundle,
        bundle_bytes,
        load_bundle: Arc::new(move |_| Ok(loaded.clone())),
        issuers: BTreeMap::from([("shop".parse()?, Arc::new(Silent) as Arc<dyn Issuer>)]),
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy),
        key: key()?,
        name: "bench".into(),
    };
    Ok((ports, count))
}

/// What an agent sends for a routine report: reason and task, an idempotency key of its own.
fn routine() -> anyhow::Result<NewRequest> {
    let key = format!("{:032x}", SystemEntropy.draw());
    Ok(NewRequest {
        on_behalf_of: None,
        action: "orders.report".parse()?,
        parameters: Map::new(),
        ttl: None,
        context: Some(json!({
            "reason": "the weekly report of orders for the finance team, as every Monday",
            "task": "FIN-2041",
        })),
        fingerprint: Digest::of(key.as_bytes()),
        idempotency_key: Some(key),
    })
}

/// Asks for a routine report and makes sure that it went through; how long that took.
pub async fn ask(broker: &Broker) -> anyhow::Result<Duration> {
    let (agent, asked) = ("reporter".parse()?, routine()?);
    let started = Instant::now();
    let (request, replayed) = broker.submit(&agent, asked).await?;
    let took = started.elapsed();
    anyhow::ensure!(
        request.state.word() == "approved" && !replayed,
        "the request is {}, not approved",
        request.state.word()
    );
    Ok(took)
}

/// How many in how long.
#[expect(clippy::cast_precision_loss, reason = "a rate is a rounded thing")]
pub fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
