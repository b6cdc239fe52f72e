//! Reads the agents of `catalog/*.toml`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use toml::de::DeTable;

use super::fields::{Fields, show};
use super::mistake::{Findings, Source, closest};
use crate::domain::agent::AgentOrigin;
use crate::domain::{Agent, AgentName, AgentProof, Digest, Party, Person};

/// An agent and where it was declared.
pub(super) struct Declared<'a> {
    pub(super) agent: Agent,
    source: Source<'a>,
    offset: usize,
}

pub(super) type Agents<'a> = BTreeMap<AgentName, Declared<'a>>;

const PROOF: &str = "{ kind = \"public_key\", ed25519 = \"…\" }";

/// Reads `[agents]` of one file into `agents`.
pub(super) fn read<'a>(
    source: Source<'a>,
    table: &DeTable<'_>,
    people: &BTreeMap<String, String>,
    agents: &mut Agents<'a>,
    findings: &mut Findings,
) {
    for (key, value) in table {
        let offset = key.span().start;
        let name = match key.get_ref().parse::<AgentName>() {
            Ok(name) => name,
            Err(error) => {
                findings.mistake(source, offset, error.to_string(), "[agents.reporter]");
                continue;
            }
        };
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("agent {name} is not a table");
            findings.mistake(source, offset, message, format!("[agents.{name}]"));
            continue;
        };
        if let Some(first) = agents.get(&name) {
            let (line, _) = first.source.place(first.offset);
            let file = first.source.file;
            let message = format!("agent {name} is declared twice; first in {file}:{line}");
            findings.mistake(source, offset, message, "another name, or one of the two");
            continue;
        }
        let fields = Fields::new(source, offset, format!("agent {name}"), table);
        let Some(agent) = agent(name.clone(), fields, people, findings) else {
            continue;
        };
        let same = agents
            .values()
            .find(|other| other.agent.proof == agent.proof);
        if let Some(other) = same {
            let message = format!(
                "agents {} and {name} prove themselves alike",
                other.agent.name
            );
            let instead = "a proof of its own for each, or nobody can tell them apart";
            findings.mistake(source, offset, message, instead);
        }
        let declared = Declared {
            agent,
            source,
            offset,
        };
        agents.insert(name, declared);
    }
}

fn agent(
    name: AgentName,
    mut fields: Fields<'_, '_>,
    people: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<Agent> {
    let owner_text = fields.text("owner", "\"dev:ana\" or \"group:data\"", findings);
    let owner = owner_text.and_then(|text| match party(text, people) {
        Ok(owner) => Some(owner),
        Err((message, instead)) => {
            findings.mistake(fields.source, fields.at("owner"), message, instead);
            None
        }
    });
    let proof = fields
        .required_table("proof", "proof", PROOF, findings)
        .and_then(|table| proof(table, findings));
    fields.finish(findings);
    Some(Agent {
        name,
        owner: owner?,
        proof: proof?,
        origin: AgentOrigin::Bundle,
    })
}

/// Reads `dev:ana` or `group:data`.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(super) fn party(
    text: &str,
    people: &BTreeMap<String, String>,
) -> Result<Party, (String, String)> {
    if let Some(group) = text.strip_prefix("group:") {
        return match group.parse() {
            Ok(group) => Ok(Party::Group(group)),
            Err(error) => Err((error.to_string(), "\"group:data\"".into())),
        };
    }
    person(text, people).map(Party::Person)
}

/// Reads `dev:ana`: a provider's name from `[people]`, and the subject it gives.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(super) fn person(
    text: &str,
    people: &BTreeMap<String, String>,
) -> Result<Person, (String, String)> {
    let names = || {
        people
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some((alias, subject)) = text.split_once(':').filter(|(_, s)| !s.trim().is_empty()) else {
        let message = format!("\"{}\" names neither a person nor a group", show(text));
        let instead = "\"PROVIDER:SUBJECT\", such as \"dev:ana\", or \"group:NAME\"";
        return Err((message, instead.into()));
    };
    match people.get(alias) {
        Some(issuer) => Ok(Person {
            issuer: issuer.clone(),
            subject: subject.into(),
        }),
        None => {
            let message = format!("there is no identity provider `{}`", show(alias));
            let instead = match closest(alias, people.keys().map(String::as_str)) {
                Some(alias) => format!("\"{alias}:{}\"", show(subject)),
                None => format!("a name from [people] in countersign.toml: {}", names()),
            };
            Err((message, instead))
        }
    }
}

fn proof(mut fields: Fields<'_, '_>, findings: &mut Findings) -> Option<AgentProof> {
    let kind = fields.text("kind", "\"public_key\"", findings)?;
    let proof = match kind {
        "public_key" => public_key(&mut fields, findings),
        "api_key_sha256" => fields
            .parsed::<Digest>(
                "hash",
                "\"<sha-256 of the key, 64 hexadecimal digits>\"",
                findings,
            )
            .map(|hash| AgentProof::ApiKey { hash }),
        "workload" => workload(&mut fields, findings),
        other => {
            let message = format!("there is no proof of the kind `{}`", show(other));
            let instead = "kind = \"public_key\", \"workload\" or \"api_key_sha256\"";
            findings.mistake(fields.source, fields.at("kind"), message, instead);
            return None;
        }
    };
    fields.finish(findings);
    proof
}

fn public_key(fields: &mut Fields<'_, '_>, findings: &mut Findings) -> Option<AgentProof> {
    let text = fields.text("ed25519", "\"<the x of its JWK>\"", findings)?;
    if URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|key| key.len() == 32)
    {
        let ed25519 = text.into();
        return Some(AgentProof::PublicKey { ed25519 });
    }
    let message = "`ed25519` is not a 32-byte public key in base64url without padding";
    let instead = "ed25519 = the 43 characters of the key's JWK member `x`";
    findings.mistake(fields.source, fields.at("ed25519"), message, instead);
    None
}

fn workload(fields: &mut Fields<'_, '_>, findings: &mut Findings) -> Option<AgentProof> {
    let issuer = fields.text("issuer", "\"github\"", findings);
    let example = "{ repository_id = \"123456\" }";
    let table = fields.required_table("claims", "claims", example, findings)?;
    let mut claims = BTreeMap::new();
    let mut complete = true;
    for (key, value) in table.entries() {
        match value.get_ref().as_str().filter(|text| !text.is_empty()) {
            Some(text) if !text.contains(['*', '?']) => {
                claims.insert(key.get_ref().to_string(), text.to_owned());
            }
            _ => {
                let message = format!("claim {} is not an exact text", show(key.get_ref()));
                let instead = format!("{} = \"123456\", compared exactly", show(key.get_ref()));
                findings.mistake(table.source, value.span().start, message, instead);
                complete = false;
            }
        }
    }
    if claims.is_empty() && complete {
        let message = "without claims every workload of the issuer would be this agent";
        let instead = format!("claims = {example}");
        findings.mistake(table.source, table.offset, message, instead);
        return None;
    }
    if claims.contains_key("repository") && !claims.contains_key("repository_id") {
        let message = "a repository's name can be given to somebody else's repository";
        let instead = "repository_id = \"…\", which never changes hands";
        findings.warning(table.source, table.offset, message, instead);
    }
    complete.then_some(AgentProof::Workload {
        issuer: issuer?.into(),
        claims,
    })
}
