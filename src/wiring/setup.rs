//! From a configuration to the parts a broker is made of.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail, ensure};

use secrecy::SecretString;

use super::aws::AwsParts;
use super::gate::Gate;
use super::{clock, files};
use crate::config::{
    AwsTarget, Config, DatabaseTls, MariadbTarget, PostgresTarget, StoreConfig, TargetConfig,
};
use crate::domain::rules::Limits;
use crate::domain::{Policy, TargetName};
use crate::identity::Provider;
use crate::issuers::aws_sts::AwsStsIssuer;
use crate::issuers::mariadb::MariadbIssuer;
use crate::issuers::postgres::PostgresIssuer;
use crate::issuers::{DeclaredTargets, Deployment, Issuer, IssuerSet, declare};
use crate::policy::{Bundle, Document, Mistake};
use crate::store::{PostgresStore, SqliteStore, Store};
use crate::system::{Entropy, SystemClock, SystemEntropy};

/// The largest `countersign.toml`.
const LARGEST_CONFIG: usize = 1024 * 1024;

/// A configuration, and the directory its paths start from.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) dir: PathBuf,
    pub(super) clock: Arc<SystemClock>,
    pub(super) entropy: Arc<dyn Entropy>,
    aws: OnceLock<AwsParts>,
}

impl Setup {
    /// Reads `countersign.toml`.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = files::text(path, LARGEST_CONFIG)?;
        let config =
            Config::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        Ok(Self::new(config, dir.unwrap_or(Path::new(".")).to_owned()))
    }

    pub(super) fn new(config: Config, dir: PathBuf) -> Self {
        let clock = Arc::new(clock::begin(&dir.join(&config.server.state_dir)));
        Self {
            config,
            dir,
            clock,
            entropy: Arc::new(SystemEntropy),
            aws: OnceLock::new(),
        }
    }

    /// What must hold before anything listens.
    pub(super) fn check_exposure(&self) -> anyhow::Result<()> {
        let server = &self.config.server;
        let url = &server.public_url;
        ensure!(
            url.path() == "/" && url.query().is_none() && url.fragment().is_none(),
            "public_url {url} has a path; give the broker a host name of its own"
        );
        let local = |ip: IpAddr| ip.is_loopback();
        let url_is_local = match url.host() {
            Some(url::Host::Ipv4(ip)) => local(ip.into()),
            Some(url::Host::Ipv6(ip)) => local(ip.into()),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => bail!("public_url {url} names no host"),
        };
        match url.scheme() {
            "https" => Ok(()),
            "http" if url_is_local && local(server.listen.ip()) => Ok(()),
            _ => bail!(
                "public_url {url} is not https, but the broker would be reached from other machines; \
                 put a proxy with TLS in front and name its https address, or listen on 127.0.0.1"
            ),
        }
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join(&self.config.server.state_dir)
    }

    /// The log's origin: `public_url` without its scheme (C2SP).
    pub(super) fn origin(&self) -> String {
        let url = self.config.server.public_url.as_str().trim_end_matches('/');
        url.split_once("://")
            .map_or(url, |(_, rest)| rest)
            .to_owned()
    }

    pub(super) async fn store(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(match &self.config.store {
            StoreConfig::Sqlite => {
                Arc::new(SqliteStore::open(&self.state_dir().join("ledger.db")).await?)
            }
            StoreConfig::Postgres { url_file } => {
                let url = files::secret(&self.dir.join(url_file))?;
                Arc::new(PostgresStore::connect(&url).await?)
            }
        })
    }

    /// The issuers, ungated. Nothing is connected to yet.
    pub(super) fn issuers(&self) -> anyhow::Result<BTreeMap<TargetName, Arc<dyn Issuer>>> {
        let targets = self.config.targets.keys();
        targets
            .map(|name| Ok((name.clone(), self.issuer(name)?)))
            .collect()
    }

    /// The issuer of one target, with the broker's password there.
    pub(super) fn issuer(&self, name: &TargetName) -> anyhow::Result<Arc<dyn Issuer>> {
        match self.target(name)? {
            TargetConfig::Postgres(target) => {
                let password = files::secret(&self.dir.join(&target.password_file))
                    .with_context(|| format!("target {name}"))?;
                self.postgres(name, target, password)
            }
            TargetConfig::Mariadb(target) => {
                let password = files::secret(&self.dir.join(&target.password_file))
                    .with_context(|| format!("target {name}"))?;
                self.mariadb(name, target, password)
            }
            TargetConfig::AwsSts(target) => Ok(Arc::new(self.aws(name, target)?)),
        }
    }

    /// The issuer of one target, good for what is pure about it.
    pub(super) fn issuer_without_password(
        &self,
        name: &TargetName,
    ) -> anyhow::Result<Arc<dyn Issuer>> {
        match self.target(name)? {
            TargetConfig::Postgres(target) => self.postgres(name, target, String::new().into()),
            TargetConfig::Mariadb(target) => self.mariadb(name, target, String::new().into()),
            TargetConfig::AwsSts(target) => Ok(Arc::new(self.aws(name, target)?)),
        }
    }

    pub(super) fn target(&self, name: &TargetName) -> anyhow::Result<&TargetConfig> {
        self.config
            .targets
            .get(name)
            .with_context(|| format!("there is no target {name}"))
    }

    /// The issuer of an AWS target. Guards are shared: one writer each.
    fn aws(&self, name: &TargetName, target: &AwsTarget) -> anyhow::Result<AwsStsIssuer> {
        if let Some(parts) = self.aws.get() {
            return parts.issuer(name, target);
        }
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        let keeper = self.deployment()?;
        let parts = AwsParts::new(&self.config, clock, entropy, &keeper)?
            .with_context(|| format!("target {name}: there is no section [aws]"))?;
        self.aws.get_or_init(|| parts).issuer(name, target)
    }

    /// The issuer of the AWS target `name`.
    pub(super) fn aws_target(&self, name: &TargetName) -> anyhow::Result<AwsStsIssuer> {
        match self.target(name)? {
            TargetConfig::AwsSts(target) => self.aws(name, target),
            TargetConfig::Postgres(_) | TargetConfig::Mariadb(_) => {
                bail!("target {name} is not of kind aws_sts; see `countersign target init-sql`")
            }
        }
    }

    fn postgres(
        &self,
        name: &TargetName,
        target: &PostgresTarget,
        password: SecretString,
    ) -> anyhow::Result<Arc<dyn Issuer>> {
        let root = self.root_pem(&target.tls)?;
        let (entropy, clock) = (Arc::clone(&self.entropy), Arc::clone(&self.clock));
        let deployment = self.deployment()?;
        let issuer = PostgresIssuer::new(name, target, password, root, entropy, clock, deployment)
            .map_err(anyhow::Error::msg)?;
        Ok(Arc::new(issuer))
    }

    fn mariadb(
        &self,
        name: &TargetName,
        target: &MariadbTarget,
        password: SecretString,
    ) -> anyhow::Result<Arc<dyn Issuer>> {
        let root = self.root_pem(&target.tls)?;
        let (entropy, clock) = (Arc::clone(&self.entropy), Arc::clone(&self.clock));
        let deployment = self.deployment()?;
        let issuer = MariadbIssuer::new(name, target, password, root, entropy, clock, deployment)
            .map_err(anyhow::Error::msg)?;
        Ok(Arc::new(issuer))
    }

    /// Which Countersign this is, by its ledger's public key. Before the first start there is none, and no credential.
    fn deployment(&self) -> anyhow::Result<Deployment> {
        let path = self.state_dir().join("ledger.vkey");
        if !path.exists() {
            return Ok(Deployment::of(""));
        }
        let key = files::text(&path, LARGEST_CONFIG)?;
        Ok(Deployment::of(key.trim_end()))
    }

    /// The authority a database's certificate is checked against, when the target names one.
    fn root_pem(&self, tls: &DatabaseTls) -> anyhow::Result<Option<String>> {
        Ok(match tls {
            DatabaseTls::VerifyFullWith { root_file } => {
                Some(files::text(&self.dir.join(root_file), LARGEST_CONFIG)?)
            }
            DatabaseTls::VerifyFull | DatabaseTls::Disable => None,
        })
    }

    /// Exact issuer URLs of the people's providers, by short name.
    pub(super) fn people(&self) -> BTreeMap<String, String> {
        let people = &self.config.people;
        people
            .iter()
            .map(|(name, config)| (name.clone(), config.issuer.clone()))
            .collect()
    }

    /// The providers people sign in with, with our secrets there.
    pub(super) fn providers(&self) -> anyhow::Result<BTreeMap<String, Provider>> {
        let mut providers = BTreeMap::new();
        for (name, config) in &self.config.people {
            let client_secret = match &config.client_secret_file {
                Some(path) => Some(
                    files::secret(&self.dir.join(path))
                        .with_context(|| format!("people.{name}"))?,
                ),
                None => None,
            };
            let config = config.clone();
            providers.insert(
                name.clone(),
                Provider {
                    config,
                    client_secret,
                },
            );
        }
        Ok(providers)
    }

    /// What the bundle of the directory is made of: its files, and what else its verdicts depend on.
    pub(super) fn document(&self) -> anyhow::Result<Document> {
        Ok(Document {
            files: files::bundle_texts(&self.dir)?,
            people: self.people(),
            targets: declare(&self.config).map_err(anyhow::Error::msg)?,
            limits: Limits::default(),
        })
    }

    /// The bundle of the directory and its targets; every mistake in it when it cannot be loaded. Pages ask `issuers`.
    pub(super) fn bundle(&self, issuers: IssuerSet) -> anyhow::Result<(Bundle, DeclaredTargets)> {
        compile(&self.document()?, issuers).map_err(|mistakes| {
            let dir = self.dir.display();
            anyhow::anyhow!("the bundle in {dir} is not loaded:\n\n{mistakes}")
        })
    }
}

/// A bundle and its targets, from its document.
///
/// # Errors
/// Every mistake in it, for people.
pub(super) fn compile(
    document: &Document,
    issuers: IssuerSet,
) -> Result<(Bundle, DeclaredTargets), String> {
    let targets = DeclaredTargets::read(&document.targets, issuers)?;
    match Bundle::compile(document, &targets) {
        Ok(bundle) => Ok((bundle, targets)),
        Err(mistakes) => Err(in_words(&mistakes)),
    }
}

/// Mistakes as a text for people.
pub(super) fn in_words(mistakes: &[Mistake]) -> String {
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n\n")
}

/// What the catalog asks of a target: the scopes to rehearse there.
pub(super) fn scopes_at(bundle: &Bundle, target: &TargetName) -> Vec<serde_json::Value> {
    let actions = bundle.actions().into_iter();
    let here = actions.filter(|action| &action.target == target);
    here.map(|action| action.scope.clone()).collect()
}

/// Puts every issuer behind its rehearsal of what the catalog asks of it.
pub(super) fn gates(
    issuers: BTreeMap<TargetName, Arc<dyn Issuer>>,
    bundle: &Bundle,
) -> BTreeMap<TargetName, Arc<Gate>> {
    let gate = |(name, issuer): (TargetName, _)| {
        let scopes = scopes_at(bundle, &name);
        (name.clone(), Arc::new(Gate::new(name, issuer, scopes)))
    };
    issuers.into_iter().map(gate).collect()
}
