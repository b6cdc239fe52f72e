//! Looking at a set-up without running it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use super::files;
use super::ledger::Kept;
use super::setup::{Setup, scopes_at};
use crate::cli::local::{Finding, Severity};
use crate::config::TargetConfig;
use crate::domain::{Policy, TargetName};
use crate::issuers::{Issuer, IssuerSet, mariadb, postgres};
use crate::policy::{self, Bundle, Mistake};
use crate::store::StoreError;
use crate::system::Clock as _;

/// How long a running broker may take to say whether it is ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// The issuer that stands for the embedded identity provider while a bundle is only checked.
const DEV_ISSUER: &str = "http://127.0.0.1:7481";

fn finding(severity: Severity, about: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding {
        severity,
        about: about.into(),
        message: message.into(),
        next: None,
    }
}

/// An error without the picture that a TOML parser draws of its place.
fn on_one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let drawn = |line: &&str| !line.split(' ').any(|word| word == "|");
    let lines: Vec<_> = text.lines().filter(drawn).map(str::trim).collect();
    lines.join(": ")
}

fn of_mistake(severity: Severity, mistake: &Mistake) -> Finding {
    let about = match mistake.line {
        0 => mistake.file.clone(),
        line => format!("{}:{line}", mistake.file),
    };
    let next = Some(format!("write instead: {}", mistake.instead));
    Finding {
        severity,
        about,
        message: mistake.message.clone(),
        next,
    }
}

/// Checks a directory of catalog, policies and configuration.
///
/// # Errors
/// When the directory cannot be read.
pub fn check(dir: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    drop(checked(dir, &mut findings)?);
    Ok(findings)
}

/// The set-up and its bundle, as far as they go; what is wrong with them is added to `findings`.
fn checked(
    dir: &Path,
    findings: &mut Vec<Finding>,
) -> anyhow::Result<Option<(Setup, IssuerSet, Option<Bundle>)>> {
    let setup = match Setup::read(&dir.join("countersign.toml")) {
        Ok(setup) => setup,
        Err(error) => {
            let mut wrong = finding(Severity::Error, "countersign.toml", on_one_line(&error));
            wrong.next =
                Some("see docs/operating.md, and docs/targets for what a target may say".into());
            findings.push(wrong);
            return Ok(None);
        }
    };
    if let Err(error) = setup.check_exposure() {
        findings.push(finding(
            Severity::Error,
            "countersign.toml",
            format!("{error:#}"),
        ));
    }
    let targets = IssuerSet(setup.unconnected_issuers(findings));
    if targets.0.len() < setup.config.targets.len() {
        // Everything that names such a target would be called a mistake, too.
        let next = "mend the target first; catalog and policies are checked after that";
        if let Some(wrong) = findings.last_mut() {
            wrong.next = Some(next.into());
        }
        return Ok(None);
    }
    let mut document = setup.document()?;
    // Without a provider it can only be tried out, with the embedded one.
    if document.people.is_empty() {
        document.people.insert("dev".into(), DEV_ISSUER.into());
    }
    let report = policy::check(&document, &targets);
    findings.extend(
        report
            .mistakes
            .iter()
            .map(|m| of_mistake(Severity::Error, m)),
    );
    findings.extend(
        report
            .warnings
            .iter()
            .map(|m| of_mistake(Severity::Warning, m)),
    );
    if let Some(bundle) = &report.bundle {
        let tests = report.trial.map_or(0, |trial| trial.ran);
        let message = format!(
            "{} actions, {} agents, {} policies; {tests} policy tests pass",
            bundle.actions().len(),
            bundle.agents().len(),
            bundle.policy_count()
        );
        let about = format!("bundle {}", bundle.bundle().short());
        findings.push(finding(Severity::Good, about, message));
    }
    Ok(Some((setup, targets, report.bundle)))
}

/// Looks for what is wrong with a set-up: its files, and a rehearsal at every target.
///
/// # Errors
/// When the directory cannot be read.
pub async fn doctor(dir: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let Some((setup, targets, bundle)) = checked(dir, &mut findings)? else {
        return Ok(findings);
    };
    for (name, issuer) in &targets.0 {
        let about = format!("target {name}");
        let scopes = bundle.as_ref().map(|bundle| scopes_at(bundle, name));
        match issuer.rehearse(&scopes.unwrap_or_default()).await {
            Err(error) => {
                findings.push(finding(
                    Severity::Error,
                    about,
                    format!("cannot be looked at: {error}"),
                ));
            }
            Ok(rehearsal) => {
                let problems = rehearsal.problems.iter();
                findings.extend(problems.map(|text| finding(Severity::Error, &about, text)));
                let warnings = rehearsal.warnings.iter();
                findings.extend(warnings.map(|text| finding(Severity::Warning, &about, text)));
                if rehearsal.problems.is_empty() {
                    let message = format!("{}: the rehearsal passed", rehearsal.target);
                    findings.push(finding(Severity::Good, about, message));
                }
            }
        }
    }
    if let Some(apart) = setup.clock.apart() {
        let mut wrong = finding(
            Severity::Error,
            "clock",
            format!("{apart}: nothing is minted"),
        );
        wrong.next = Some(
            "set the wall clock right; or, when it is, say so: countersign clock accept --reason …"
                .into(),
        );
        findings.push(wrong);
    }
    let state = setup.state_dir();
    if state.exists() {
        if let Err(error) = files::state_dir(&state) {
            findings.push(finding(Severity::Error, "state_dir", format!("{error:#}")));
        }
        // Before its first start a broker has no ledger.
        if state.join("ledger.key").exists() {
            findings.push(of_ledger(dir, &setup).await);
        }
    }
    Ok(findings)
}

/// Whether the store is the ledger that this broker knows.
async fn of_ledger(dir: &Path, setup: &Setup) -> Finding {
    let wrong = |error: anyhow::Error, next: String| Finding {
        next: Some(next),
        ..finding(Severity::Error, "ledger", on_one_line(&error))
    };
    let kept = match Kept::of(dir, None).await {
        Ok(kept) => kept,
        Err(error) if in_use(&error) => {
            return of_running(setup).await;
        }
        Err(error) => return wrong(error, "see docs/operating.md, What it keeps".into()),
    };
    match kept.continues().await {
        Ok((size, Some(known))) => {
            let message = format!(
                "{size} entries, which continue the {known} that are known here; `countersign ledger verify` checks those one by one"
            );
            finding(Severity::Good, "ledger", message)
        }
        Ok((size, None)) => {
            let message = format!(
                "{size} entries, and none are known here: a store that was rolled back would not be noticed before the next start"
            );
            finding(Severity::Warning, "ledger", message)
        }
        Err(error) => wrong(
            error,
            format!(
                "restore the store; or, when the newest history is lost for good, stop its brokers and run: countersign ledger accept {} --reason …",
                dir.display()
            ),
        ),
    }
}

/// What the broker that has the store open says of it.
async fn of_running(setup: &Setup) -> Finding {
    let url = format!("http://{}/readyz", setup.config.server.listen);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let asked = async { client.build()?.get(&url).send().await?.bytes().await };
    let answer = asked.await.ok();
    let answer = answer.and_then(|body| serde_json::from_slice::<serde_json::Value>(&body).ok());
    let word = |name: &str| {
        let word = answer.as_ref().and_then(|answer| answer.get(name));
        word.and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    if word("status").as_deref() == Some("ready") {
        let message = "its broker is running, and believes it";
        return finding(Severity::Good, "ledger", message);
    }
    let detail = word("detail").unwrap_or_else(|| format!("nothing useful comes from {url}"));
    Finding {
        next: word("next"),
        ..finding(
            Severity::Error,
            "ledger",
            format!("its broker is running, and not ready: {detail}"),
        )
    }
}

/// Whether a store cannot be opened because a broker has it open.
fn in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::InUse(_)))
}

/// The documents that prepare AWS for `target`, for a broker that is `broker` there.
///
/// # Errors
/// When the configuration cannot be read, or has no such target.
pub fn init_iam(dir: &Path, target: &str, broker: &str) -> anyhow::Result<serde_json::Value> {
    let issuer = Setup::read(&dir.join("countersign.toml"))?.aws_target(&target.parse()?)?;
    let preparation = issuer.preparation(broker).map_err(anyhow::Error::msg)?;
    Ok(preparation.to_json())
}

/// The SQL that prepares a database target for what the catalog asks of it.
///
/// # Errors
/// When the set-up or its bundle is wrong, or the target is no database.
pub fn init_sql(dir: &Path, target: &str) -> anyhow::Result<String> {
    let mut findings = Vec::new();
    let Some((setup, _, Some(bundle))) = checked(dir, &mut findings)? else {
        let dir = dir.display();
        bail!("the set-up in {dir} has mistakes: see `countersign check {dir}`");
    };
    let name: TargetName = target.parse()?;
    let scopes = scopes_at(&bundle, &name);
    let prepared = match setup.target(&name)? {
        TargetConfig::Postgres(target) => postgres::preparation_sql(target, &scopes),
        TargetConfig::Mariadb(target) => mariadb::preparation_sql(target, &scopes),
        TargetConfig::AwsSts(_) => {
            bail!("target {name} is no database: see `countersign target init-iam {name}`")
        }
    };
    prepared.map_err(anyhow::Error::msg)
}

impl Setup {
    /// The issuers whose configuration is good. A password file that is not there yet is a warning: what a
    /// bundle asks for can be checked without it.
    fn unconnected_issuers(
        &self,
        findings: &mut Vec<Finding>,
    ) -> BTreeMap<TargetName, std::sync::Arc<dyn Issuer>> {
        let mut issuers = BTreeMap::new();
        for name in self.config.targets.keys() {
            let mut found = |severity, error: anyhow::Error| {
                findings.push(finding(
                    severity,
                    format!("target {name}"),
                    format!("{error:#}").trim_start_matches(&format!("target {name}: ")),
                ));
            };
            // What is wrong without the password is wrong with it too, and is said once.
            match self.issuer_without_password(name) {
                Err(error) => found(Severity::Error, error),
                Ok(bare) => {
                    let issuer = self.issuer(name).unwrap_or_else(|error| {
                        found(Severity::Warning, error);
                        bare
                    });
                    issuers.insert(name.clone(), issuer);
                }
            }
        }
        issuers
    }
}
