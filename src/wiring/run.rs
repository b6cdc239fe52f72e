//! Running a broker: for real, and for trying out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::accept::Accepted;
use super::clock::Keeper;
use super::gate;
use super::people::Doorkeeper;
use super::setup::{Setup, compile, gates, in_words};
use super::{aws, files};
use crate::broker::{Broker, Loaded, Ports};
use crate::config::{Config, StoreConfig};
use crate::domain::TargetName;
use crate::http::gate::{Directory, Gate};
use crate::http::{self, Api, Authenticator, Bounds};
use crate::identity::{self, Agents, Reviewers, dev_idp};
use crate::issuers::{DeclaredTargets, Issuer, IssuerSet};
use crate::ledger::{NoteError, SigningKey, VerifyingKey};
use crate::policy::{Bundle, Document};
use crate::store::{FileHead, KnownHead, Shelf, Store};
use crate::web::auth::SignIn;
use crate::web::{self, Pages};

/// How often sessions and tokens that are over are removed.
const TIDY_EVERY: Duration = Duration::from_secs(600);
/// The name of the embedded identity provider in `owner = "dev:ana"`.
const DEV_PEOPLE: &str = "dev";

/// Runs the broker of `countersign.toml` until `stop`.
///
/// # Errors
/// What could not be set up, or what failed while running.
pub async fn serve(config: PathBuf, stop: CancellationToken) -> anyhow::Result<()> {
    ensure!(
        config.exists(),
        "there is no {}; name it or its directory with --config, or try things out with `countersign dev`",
        config.display()
    );
    let setup = Setup::read(&config)?;
    setup.check_exposure()?;
    ensure!(
        !setup.config.people.is_empty(),
        "{}: nobody could sign in; add a [people.NAME] section, or try things out with `countersign dev`",
        config.display()
    );
    let listener = listen(setup.config.server.listen).await?;
    run(setup, listener, stop).await
}

/// Runs a broker for trying out until `stop`: SQLite, generated keys and an embedded identity provider, on
/// loopback only. It is the same broker; only the identity provider is extra.
///
/// # Errors
/// As for [`serve`].
pub async fn dev(dir: PathBuf, stop: CancellationToken) -> anyhow::Result<()> {
    let config = dir.join("countersign.toml");
    let mut setup = if config.exists() {
        Setup::read(&config)?
    } else {
        ensure!(
            dir.is_dir(),
            "{} is not a directory; create it first",
            dir.display()
        );
        Setup::new(Config::parse(DEV_CONFIG)?, dir)
    };
    let listen_on = setup.config.server.listen;
    ensure!(
        listen_on.ip().is_loopback(),
        "dev mode listens on loopback only, not on {listen_on}; use `countersign serve` with a real identity provider"
    );
    let unused = match &setup.config.store {
        StoreConfig::Postgres { .. } => Some("[store]"),
        StoreConfig::Sqlite => (!setup.config.people.is_empty()).then_some("[people]"),
    };
    if let Some(section) = unused {
        tracing::warn!(
            section,
            "dev mode keeps its ledger in a file and signs people in itself; what countersign.toml says of that is for `countersign serve`"
        );
    }
    setup.config.store = StoreConfig::Sqlite;
    setup.config.people.clear();
    let listener = listen(listen_on).await?;
    let address = listener.local_addr()?;
    setup.config.server.public_url = format!("http://{address}").parse()?;
    setup.check_exposure()?;
    // The provider keeps its port over restarts, because people are known by its address.
    let idp_port = if listen_on.port() == 0 {
        0
    } else {
        listen_on.port() + 1
    };
    let idp_listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, idp_port))).await?;
    let (people, idp) = dev_idp::start(
        idp_listener,
        &setup.config.server.public_url,
        setup.clock.clone(),
        Arc::clone(&setup.entropy),
    )?;
    banner(&setup, &people.issuer);
    setup.config.people.insert(DEV_PEOPLE.into(), people);
    tokio::select! {
        served = run(setup, listener, stop) => served,
        served = idp => served.context("run the embedded identity provider"),
    }
}

/// What a directory without `countersign.toml` gets.
const DEV_CONFIG: &str = r#"
[server]
public_url = "http://127.0.0.1:7480"
state_dir = "state"
"#;

fn banner(setup: &Setup, idp: &str) {
    let lines = [
        "DEVELOPMENT MODE: anybody on this machine can sign in as anybody. Not for real credentials.".into(),
        format!("pages and API      {}", setup.config.server.public_url),
        format!("identity provider  {idp} (embedded)"),
        "people             ana (data-platform) · ben (support-leads, dba) · chloe (security) · dmitri (support-leads)".into(),
        format!("operator token     {}", setup.state_dir().join("operator.token").display()),
    ];
    for line in lines {
        tracing::warn!("{line}");
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address}; is another broker running? choose another address with server.listen")
    })
}

/// Sets everything up on `listener` and serves until `stop`.
async fn run(setup: Setup, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    files::state_dir(&setup.state_dir())?;
    aws::warn_of_ignored(&setup.config);
    let key = files::signing_key(&setup.state_dir(), &setup.origin(), setup.entropy.as_ref())?;
    let operator = files::operator(&setup.state_dir(), setup.entropy.as_ref())?;
    let issuers = setup.issuers()?;
    let (bundle, targets) = setup.bundle(IssuerSet(issuers.clone()))?;
    let gates = gates(issuers, &bundle);
    let store = setup.store().await?;
    let known_head = FileHead::open(&setup.state_dir().join("ledger.head"))?;
    signed_with(key.verifying_key(), store.as_ref(), &known_head).await?;
    let accepted = Accepted::find(&setup.state_dir(), &known_head, key.verifying_key())?;
    let shelf = Shelf::new(Arc::clone(&store), &key);
    let identity = identity::Ports {
        shelf: shelf.clone(),
        clock: setup.clock.clone(),
        entropy: Arc::clone(&setup.entropy),
    };
    // Before anything is put in force: a mistake in [people] must leave no trace.
    let public_url = &setup.config.server.public_url;
    let reviewers = Reviewers::new(identity.clone(), setup.providers()?, public_url)?;
    let mut background = tokio::task::JoinSet::new();
    let issuers = gates
        .iter()
        .map(|(name, gate)| (name.clone(), Arc::clone(gate) as Arc<dyn Issuer>))
        .collect();
    let (guarded, others): (Vec<_>, Vec<_>) =
        gates.into_values().partition(|gate| gate.guard().is_some());
    // Before the broker searches the targets: it would take a probe for a credential that no lease explains.
    open(others, &mut background).await;
    let stores = (Arc::clone(&store), known_head);
    let broker = Broker::start(ports(&setup, key, issuers, (bundle, targets), stores)).await?;
    if let Some(accepted) = accepted
        && let Err(error) = accepted.record(&broker).await
    {
        tracing::error!(
            error = format!("{error:#}"),
            "the accepted ledger is not an entry yet"
        );
    }
    // Those look whether their guards are in force.
    broker.publish_guards().await;
    open(guarded, &mut background).await;
    background.spawn(Keeper::start(Arc::clone(&setup.clock), &setup.state_dir())?.keep());
    background.spawn(tidy(shelf, setup.clock.clone()));
    let (authenticator, sign_in) = doors(&setup, &broker, identity, reviewers, operator)?;
    let entropy = Arc::clone(&setup.entropy);
    let api = Api::new(
        broker.clone(),
        authenticator,
        entropy,
        public_url,
        setup.people(),
    );
    let stopping = api.stopping.clone();
    let pages = web::router(Pages::new(broker.clone(), sign_in, public_url));
    tracing::info!(address = %listener.local_addr()?, %public_url, "serving");
    let broken = Arc::new(OnceLock::new());
    let stopped = stopped(broker.clone(), stop, stopping, Arc::clone(&broken));
    let app = http::router(api, pages);
    let served = http::serve(listener, app, Bounds::default(), stopped).await;
    broker.stop().await;
    background.shutdown().await;
    store.close().await;
    served.context("serve")?;
    // Half a broker would forget duties: whoever supervises the process starts it anew.
    broken.get().map_or(Ok(()), |why| anyhow::bail!("{why}"))
}

/// Waits until the process is told to stop or half of the broker is gone, and has open calls answered then.
async fn stopped(
    broker: Broker,
    stop: CancellationToken,
    stopping: CancellationToken,
    broken: Arc<OnceLock<String>>,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        why = broker.broken() => drop(broken.set(why)),
    }
    stopping.cancel();
}

/// Rehearses once; what does not pass is rehearsed again in the background.
async fn open(gates: Vec<Arc<gate::Gate>>, background: &mut tokio::task::JoinSet<()>) {
    for gate in gates {
        if !gate.try_open().await {
            background.spawn(gate.open_some_day());
        }
    }
}

/// A ledger has one key: two would be two histories to whoever verifies it. A broker that knows a head under its key
/// has the right one: what another key signed is then a store that is not to be believed.
async fn signed_with(
    key: &VerifyingKey,
    store: &dyn Store,
    known_head: &FileHead,
) -> anyhow::Result<()> {
    let new_here = matches!(known_head.newest(key), Ok(None));
    let head = store.head().await;
    let other = head.is_ok_and(|head| {
        let read = key.open_checkpoint(&head.checkpoint);
        head.size > 0 && matches!(read, Err(NoteError::Unsigned(_)))
    });
    ensure!(
        !(new_here && other),
        "this broker's key did not sign the ledger in the store; \
         copy ledger.key from the state directory of the broker that began it"
    );
    Ok(())
}

fn ports(
    setup: &Setup,
    key: SigningKey,
    issuers: BTreeMap<TargetName, Arc<dyn Issuer>>,
    (bundle, targets): (Bundle, DeclaredTargets),
    (store, known_head): (Arc<dyn Store>, FileHead),
) -> Ports {
    let for_pages = issuers.clone();
    Ports {
        store,
        known_head: Arc::new(known_head),
        bundle_bytes: bundle.bytes().to_vec(),
        bundle: loaded(bundle, targets),
        load_bundle: Arc::new(move |bytes| {
            let document = Document::from_bytes(bytes).map_err(|wrong| in_words(&wrong))?;
            let (bundle, targets) = compile(&document, IssuerSet(for_pages.clone()))?;
            Ok(loaded(bundle, targets))
        }),
        issuers,
        clock: setup.clock.clone(),
        entropy: Arc::clone(&setup.entropy),
        key,
        name: format!("{:032x}", setup.entropy.draw()),
    }
}

fn loaded(bundle: Bundle, targets: DeclaredTargets) -> Loaded {
    Loaded {
        policy: Arc::new(bundle),
        targets: Arc::new(targets),
    }
}

/// Who is calling, for the API, and signing in, for the pages.
fn doors(
    setup: &Setup,
    broker: &Broker,
    ports: identity::Ports,
    reviewers: Reviewers,
    operator: crate::domain::Digest,
) -> anyhow::Result<(Arc<dyn Authenticator>, Arc<dyn SignIn>)> {
    let public_url = &setup.config.server.public_url;
    let directory = Arc::new(Directory(broker.clone()));
    let workloads = &setup.config.workloads;
    let agents = Agents::new(ports, directory, workloads, public_url, Some(operator))?;
    let gate = Gate {
        agents: Arc::new(agents),
        sessions: reviewers.sessions().clone(),
    };
    let providers = setup.config.people.clone().into_iter().collect();
    Ok((
        Arc::new(gate),
        Arc::new(Doorkeeper {
            reviewers,
            providers,
        }),
    ))
}

async fn tidy(shelf: Shelf, clock: Arc<dyn crate::system::Clock>) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        // Never too early by either of the two times that what is remembered is judged by.
        let over = clock.now().min(clock.utc());
        if let Err(error) = shelf.sweep(over).await {
            tracing::warn!(
                error = error.in_full(),
                "sessions that are over could not be removed"
            );
        }
    }
}
