//! A bundle: catalog, agents and policies, compiled as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{PolicyId, Schema};
use toml::de::DeValue;

use super::agents::{self, Agents};
use super::catalog::{self, Actions};
use super::document::Document;
use super::facts::{Facts, Misfit, Stated};
use super::fields::{self, show};
use super::index::Index;
use super::lints::{self, Names};
use super::mistake::{Findings, Mistake, Source, closest};
use super::policies::{self, Written};
use super::schema::{Kind, schema_text};
use super::{LARGEST_BUNDLE, LARGEST_FILE};
use crate::domain::canonical;
use crate::domain::rules::{Ask, Judgement, Limits, Question};
use crate::domain::{Action, ActionName, Agent, Digest, Policy, Ruling, Seconds, Targets};

/// Where the policy tests are.
pub(super) const TESTS: &str = "policies/tests.toml";

/// A compiled bundle, ready to be asked.
pub struct Bundle {
    bytes: Vec<u8>,
    digest: Digest,
    limits: Limits,
    schema: String,
    /// Each with the hash of its definition.
    actions: BTreeMap<ActionName, (Action, Digest)>,
    agents: Vec<Agent>,
    policies: usize,
    looks_at_the_clock: bool,
    facts: Facts,
    index: Index,
    ttls: HashMap<PolicyId, Seconds>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Whether a file belongs to a bundle, by its path relative to the bundle's directory:
/// `catalog/*.toml`, `policies/*.cedar` and `policies/tests.toml`.
pub fn is_bundle_file(path: &str) -> bool {
    let in_folder = |folder: &str, end: &str| {
        path.strip_prefix(folder)
            .and_then(|rest| rest.strip_suffix(end))
            .is_some_and(|stem| !stem.is_empty() && !stem.contains('/') && !stem.starts_with('.'))
    };
    path == TESTS || in_folder("catalog/", ".toml") || in_folder("policies/", ".cedar")
}

impl Bundle {
    /// Compiles a bundle whose targets are `targets`.
    ///
    /// # Errors
    /// Every mistake in it, sorted by place. A bundle with a mistake is not loaded.
    pub fn compile(document: &Document, targets: &dyn Targets) -> Result<Self, Vec<Mistake>> {
        let mut findings = Findings::default();
        let bundle = build(document, targets, &mut findings);
        findings.sort();
        bundle.ok_or(findings.mistakes)
    }

    /// The bundle's document as canonical JSON (RFC 8785). Its SHA-256 is the bundle's digest.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The Cedar schema generated from its catalog.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether an answer to an agent may depend on when it asks. `false` is certain: no policy has the word for it.
    pub fn looks_at_the_clock(&self) -> bool {
        self.looks_at_the_clock
    }

    /// How many policies it has.
    pub fn policy_count(&self) -> usize {
        self.policies
    }
}

impl Policy for Bundle {
    fn bundle(&self) -> Digest {
        self.digest
    }

    fn action(&self, name: &ActionName) -> Option<&Action> {
        self.actions.get(name).map(|(action, _)| action)
    }

    fn actions(&self) -> Vec<&Action> {
        self.actions.values().map(|(action, _)| action).collect()
    }

    fn definition(&self, action: &Action) -> Digest {
        match self.actions.get(&action.name) {
            Some((own, definition)) if std::ptr::eq(own, action) => *definition,
            _ => action.definition(),
        }
    }

    fn agents(&self) -> &[Agent] {
        &self.agents
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn ask(&self, question: &Question<'_>) -> Ruling {
        let (kind, reviewer, ask) = match question {
            Question::Request(ask) => (Kind::Request, None, ask),
            Question::Routine(ask) => (Kind::Routine, None, ask),
            Question::Review(reviewer, ask) => (Kind::Review, Some(*reviewer), ask),
            Question::Revoke(reviewer, ask) => (Kind::Revoke, Some(*reviewer), ask),
        };
        let stated = self.facts.state(&[kind], reviewer, ask);
        stated
            .and_then(|stated| self.rule(kind, &stated))
            .unwrap_or_else(misfit)
    }

    /// States the facts once for both questions, unless policy shortens the lifetime between them.
    fn judge(&self, ask: &Ask<'_>) -> Judgement {
        let kinds = [Kind::Request, Kind::Routine];
        let stated = match self.facts.state(&kinds, None, ask) {
            Ok(stated) => stated,
            Err(error) => {
                let request = misfit(error);
                let routine = request.clone();
                return Judgement { request, routine };
            }
        };
        let request = self.rule(Kind::Request, &stated).unwrap_or_else(misfit);
        let ttl = request.shorten(ask.ttl);
        let routine = if ttl == ask.ttl {
            self.rule(Kind::Routine, &stated).unwrap_or_else(misfit)
        } else {
            self.ask(&Question::Routine(Ask { ttl, ..ask.clone() }))
        };
        Judgement { request, routine }
    }
}

impl Bundle {
    fn rule(&self, kind: Kind, stated: &Stated<'_>) -> Result<Ruling, Misfit> {
        let request = self.facts.request(stated, kind)?;
        let answer = self.index.answer(kind, stated, &request);
        let ttls = answer.policies.iter().filter_map(|id| self.ttls.get(id));
        Ok(Ruling {
            permitted: answer.permitted,
            ttl_at_most: ttls.min().copied().filter(|_| answer.permitted),
            policies: answer.policies.iter().map(ToString::to_string).collect(),
            errors: answer.errors.into_iter().collect(),
        })
    }
}

fn misfit(error: Misfit) -> Ruling {
    Ruling {
        errors: vec![error.to_string()],
        ..Ruling::default()
    }
}

/// Compiles what it can and reports all there is to report. `Some` exactly when there is no mistake.
pub(super) fn build(
    document: &Document,
    targets: &dyn Targets,
    findings: &mut Findings,
) -> Option<Bundle> {
    let Document { files, people, .. } = document;
    if !is_of_bearable_size(files, findings) {
        return None;
    }
    let (mut actions, mut agents) = (Actions::default(), Agents::new());
    let mut written = BTreeMap::new();
    for (file, text) in files {
        let source = Source { file, text };
        if !is_bundle_file(file) {
            let message = "this file is no part of a bundle";
            let instead = "catalog/NAME.toml, policies/NAME.cedar or policies/tests.toml";
            findings.mistake_in(file, message, instead);
        } else if file.ends_with(".cedar") {
            policies::read(policies::statements(source), &mut written, findings);
        } else if file != TESTS {
            read_catalog(source, targets, people, &mut actions, &mut agents, findings);
        }
    }
    let catalog = actions.declared.values().map(|declared| &declared.action);
    let schema_text = schema_text(catalog.clone());
    let schema = match Schema::from_cedarschema_str(&schema_text) {
        Ok((schema, _)) => schema,
        Err(error) => {
            let message = format!("no schema could be made of the catalog: {error}");
            findings.mistake_in("catalog", message, "fewer or other names");
            return None;
        }
    };
    if !actions.unreadable {
        check_policies(&schema, &written, &actions, &agents, people, findings);
    }
    if !findings.mistakes.is_empty() {
        return None;
    }
    let bytes = canonical::to_vec(document);
    let bytes =
        bytes.map_err(|error| findings.mistake_in("bundle", error.to_string(), "other numbers"));
    let bytes = bytes.ok()?;
    let facts = Facts::new(schema, catalog.clone(), people);
    let facts =
        facts.map_err(|error| findings.mistake_in("catalog", error.to_string(), "other names"));
    let facts = facts.ok()?;
    let index = Index::new(written.values().map(|w| &w.policy), &facts);
    let index =
        index.map_err(|error| findings.mistake_in("policies", error.to_string(), "each @id once"));
    Some(Bundle {
        digest: Digest::of(&bytes),
        bytes,
        limits: document.limits,
        schema: schema_text,
        actions: catalog
            .map(|action| (action.name.clone(), (action.clone(), action.definition())))
            .collect(),
        agents: agents
            .into_values()
            .map(|declared| declared.agent)
            .collect(),
        policies: written.len(),
        looks_at_the_clock: written
            .values()
            .any(|written| may_look_at_the_clock(written.statement.text)),
        facts,
        index: index.ok()?,
        ttls: written
            .into_iter()
            .filter_map(|(id, w)| Some((id, w.ttl?)))
            .collect(),
    })
}

/// Whether a policy has the word for the instant of a question, or could have it behind an escape.
fn may_look_at_the_clock(policy: &str) -> bool {
    let mut words = policy.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    policy.contains('\\') || words.any(|word| word == "now")
}

/// Bounds what is parsed at all.
fn is_of_bearable_size(files: &BTreeMap<String, String>, findings: &mut Findings) -> bool {
    let before = findings.mistakes.len();
    for (file, text) in files.iter().filter(|(_, text)| text.len() > LARGEST_FILE) {
        let message = format!(
            "the file has {} bytes, more than {LARGEST_FILE}",
            text.len()
        );
        findings.mistake_in(file, message, "several smaller files");
    }
    let total: usize = files.values().map(String::len).sum();
    if total > LARGEST_BUNDLE {
        let message = format!("the bundle has {total} bytes, more than {LARGEST_BUNDLE}");
        findings.mistake_in("bundle", message, "less of it");
    }
    findings.mistakes.len() == before
}

fn read_catalog<'a>(
    source: Source<'a>,
    targets: &dyn Targets,
    people: &BTreeMap<String, String>,
    actions: &mut Actions<'a>,
    agents: &mut Agents<'a>,
    findings: &mut Findings,
) {
    let Some(table) = fields::parse(source, findings) else {
        actions.unreadable = true;
        return;
    };
    for (key, value) in &table {
        let offset = key.span().start;
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("actions", DeValue::Table(table)) => {
                catalog::read(source, table, targets, actions, findings);
            }
            ("agents", DeValue::Table(table)) => {
                agents::read(source, table, people, agents, findings);
            }
            (word, _) => {
                let instead = closest(word, ["actions", "agents"]).unwrap_or("actions");
                let message = format!("a catalog file has no table `{}`", show(word));
                findings.mistake(source, offset, message, format!("[{instead}.\"…\"]"));
            }
        }
    }
}

fn check_policies(
    schema: &Schema,
    written: &BTreeMap<PolicyId, Written<'_>>,
    actions: &Actions<'_>,
    agents: &Agents<'_>,
    people: &BTreeMap<String, String>,
    findings: &mut Findings,
) {
    let declared = actions.declared.values();
    let names = Names {
        actions: declared
            .clone()
            .map(|d| d.action.name.to_string())
            .collect(),
        targets: declared
            .clone()
            .map(|d| d.action.target.to_string())
            .collect(),
        agents: agents
            .keys()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        people,
    };
    let broken = |text: &str| {
        let mut names = actions.broken.iter();
        names
            .find(|name| text.contains(name.as_str()))
            .map(String::as_str)
    };
    policies::validate(schema, written, broken, findings);
    for written in written.values() {
        if broken(written.statement.text).is_none() {
            lints::check_names(written, &names, findings);
        }
        lints::check_scope(written, findings);
    }
    for declared in declared {
        lints::check_reviewers(declared, written, findings);
    }
}
