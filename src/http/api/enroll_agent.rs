//! `POST /v1/agents`: the operator adds an agent.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::agent::AgentOrigin;
use crate::domain::{Agent, AgentName, AgentProof, Party, Person};
use crate::http::body::Json;
use crate::http::fields::{Fields, FromFields};
use crate::http::view::AgentView;
use crate::http::{Api, Problem};
use crate::identity::keys::{self, TokenKind};

/// A new agent.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"name": "billing-bot", "owner": "group:billing-team", "proof": {"kind": "api_key"}}))]
pub struct NewAgent {
    /// Its name, for ever.
    #[schema(value_type = String)]
    name: AgentName,
    /// Who answers for it and can therefore never review it: `PEOPLE:SUBJECT` with the short name of an identity
    /// provider in `countersign.toml`, or `group:NAME`.
    owner: String,
    /// How it proves itself.
    #[schema(value_type = NewProof)]
    proof: Proof,
}

/// How a new agent proves itself.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the object for the document; it is read as `Proof`"
)]
pub struct NewProof {
    /// `api_key` (we draw one and show it once) or `public_key` (the agent keeps the private half).
    kind: String,
    /// With `public_key`: the 32-byte Ed25519 public key, base64url without padding.
    ed25519: Option<String>,
}

#[derive(Debug)]
enum Proof {
    ApiKey,
    PublicKey(String),
}

impl FromFields for Proof {
    const NAMES: &'static [&'static str] = &["kind", "ed25519"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let is_key = fields.required_word("kind", &[("api_key", false), ("public_key", true)])?;
        if !is_key {
            if fields.text("ed25519", 64).is_some() {
                fields.wrong("ed25519", "invalid_value", "goes with kind public_key only");
            }
            return Some(Self::ApiKey);
        }
        let key = fields.required_text("ed25519", 64)?;
        if URL_SAFE_NO_PAD
            .decode(&key)
            .is_ok_and(|bytes| bytes.len() == 32)
        {
            return Some(Self::PublicKey(key));
        }
        let detail = "give the 32 bytes of an Ed25519 public key, base64url without padding";
        fields.wrong("ed25519", "invalid_value", detail);
        None
    }
}

impl FromFields for NewAgent {
    const NAMES: &'static [&'static str] = &["name", "owner", "proof"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name");
        let owner = fields.required_text("owner", 512);
        let proof = (!fields.is_missing("proof")).then(|| fields.nested("proof"));
        Some(Self {
            name: name?,
            owner: owner?,
            proof: proof??,
        })
    }
}

/// An added agent, with its API key the one time it is shown.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "agent": {"name": "billing-bot", "owner": {"kind": "group", "group": "billing-team"},
        "proof": {"kind": "api_key"}, "origin": "operator", "disabled_at": null},
    "api_key": "csk_…"
}))]
pub struct EnrolledView {
    /// The agent.
    agent: AgentView,
    /// Its API key, shown once; only its hash is kept.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hand_over")]
    #[schema(value_type = Option<String>)]
    api_key: Option<SecretString>,
}

/// The one place where a new key is written out.
fn hand_over<S: Serializer>(key: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(ExposeSecret::expose_secret).serialize(to)
}

/// Add an agent
///
/// What it gets is the right to ask. Its owner can never review its requests.
#[utoipa::path(
    post, path = "/v1/agents", operation_id = "enroll_agent", tag = "agents",
    request_body = NewAgent,
    responses((status = 201, description = "Added.", body = EnrolledView,
        headers(("Location" = String, description = "The list it is in."))))
)]
pub async fn enroll(
    State(api): State<Api>,
    Json { value: new, .. }: Json<NewAgent>,
) -> Result<Response, Problem> {
    let owner = owner(&api, &new.owner)?;
    let (proof, api_key) = match new.proof {
        Proof::PublicKey(ed25519) => (AgentProof::PublicKey { ed25519 }, None),
        Proof::ApiKey => {
            let (key, hash) = keys::generate(TokenKind::ApiKey, api.entropy.as_ref());
            (AgentProof::ApiKey { hash }, Some(key))
        }
    };
    let agent = Agent {
        name: new.name,
        owner,
        proof,
        origin: AgentOrigin::Operator,
    };
    api.broker.enroll_agent(agent.clone()).await?;
    let view = EnrolledView {
        agent: AgentView::of(&agent, None),
        api_key,
    };
    let location = [(header::LOCATION, HeaderValue::from_static("/v1/agents"))];
    Ok((StatusCode::CREATED, location, axum::Json(view)).into_response())
}

fn owner(api: &Api, text: &str) -> Result<Party, Problem> {
    let wrong = |detail: String| Problem::mistake("/owner", "invalid_value", detail);
    let known = || {
        api.people
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some((people, subject)) = text.split_once(':') else {
        return Err(wrong("write PEOPLE:SUBJECT or group:NAME".into()));
    };
    if people == "group" {
        let group = subject.parse();
        return group
            .map(Party::Group)
            .map_err(|error| wrong(error.to_string()));
    }
    let issuer = api.people.get(people).ok_or_else(|| {
        wrong(format!(
            "no identity provider is called {people:?}; there are: {}",
            known()
        ))
    })?;
    if subject.is_empty() || subject.chars().any(char::is_control) {
        return Err(wrong(
            "the subject is empty or has control characters".into(),
        ));
    }
    Ok(Party::Person(Person {
        issuer: issuer.clone(),
        subject: subject.into(),
    }))
}
