//! What the API sends and takes, as types. Members a type does not name are kept in `rest`; words it does not know are kept as they are.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A word this client does not know.
            Other(String),
        }

        impl $name {
            /// The word, as in JSON.
            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$variant => $word,)+
                    $name::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => $name::$variant,)+
                    _ => $name::Other(word),
                }
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> String {
                word.as_str().into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// Where a request stands.
    State {
        /// Waiting for reviewers.
        Pending = "pending",
        /// May be collected.
        Approved = "approved",
        /// The credential is being minted.
        Issuing = "issuing",
        /// The credential lives.
        Live = "live",
        /// The credential is being ended.
        Ending = "ending",
        /// Over.
        Closed = "closed",
    }
);

words!(
    /// How a request came out.
    Outcome {
        /// Policy forbids it.
        Refused = "refused",
        /// A reviewer said no.
        Denied = "denied",
        /// Nobody decided or collected in time.
        Lapsed = "lapsed",
        /// The agent took it back.
        Withdrawn = "withdrawn",
        /// A freeze stopped it.
        Frozen = "frozen",
        /// Something it rested on changed before the mint.
        Stale = "stale",
        /// It could not be minted.
        Failed = "failed",
        /// Done; the credential is proven gone.
        Completed = "completed",
        /// Ended early by somebody; the credential is proven gone.
        Revoked = "revoked",
        /// Its time ran out; the credential is proven gone.
        Expired = "expired",
        /// Given up by the operator; nobody has proven the credential gone.
        Abandoned = "abandoned",
    }
);

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Where the next page begins, if there is one.
    #[serde(default = "Option::default")]
    pub next_cursor: Option<String>,
}

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// How it came out, once closed.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Who asks.
    #[serde(default)]
    pub agent: String,
    /// For what.
    #[serde(default)]
    pub action: String,
    /// With which parameters.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// For how long from mint.
    #[serde(default)]
    pub ttl_seconds: u64,
    /// The lifetime that was asked for, before it was cut to what is allowed.
    #[serde(default)]
    pub asked_ttl_seconds: Option<u64>,
    /// Where.
    #[serde(default)]
    pub target: String,
    /// The server the target stands for.
    #[serde(default)]
    pub server: String,
    /// SHA-256 of exactly what is approved.
    #[serde(default)]
    pub digest: String,
    /// What its credential left at the target, or had removed behind it.
    #[serde(default)]
    pub residue: Vec<String>,
    /// What policy said.
    #[serde(default)]
    pub verdict: Option<VerdictView>,
    /// What people said.
    #[serde(default)]
    pub reviews: Vec<ReviewView>,
    /// How many reviewers are still needed, by group.
    #[serde(default)]
    pub needs: BTreeMap<String, u64>,
    /// When it was asked.
    #[serde(default)]
    pub submitted_at: Option<String>,
    /// Until when it waits for reviewers.
    #[serde(default)]
    pub pending_until: Option<String>,
    /// Until when it may be collected.
    #[serde(default)]
    pub collect_until: Option<String>,
    /// The lease, once there is one.
    #[serde(default)]
    pub lease: Option<LeaseView>,
    /// Where reviewers decide.
    #[serde(default)]
    pub review_url: Option<String>,
    /// The scope in words.
    #[serde(default)]
    pub explanation: Option<ExplanationView>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What policy said of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerdictView {
    /// `allow`, `review` or `deny`.
    #[serde(default)]
    pub answer: String,
    /// The policies that decided.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One person's decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReviewView {
    /// Who.
    #[serde(default)]
    pub reviewer: Option<OnBehalfOf>,
    /// `approve` or `deny`.
    #[serde(default)]
    pub decision: String,
    /// When.
    #[serde(default)]
    pub at: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A person, as their identity provider knows them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OnBehalfOf {
    /// The issuer of their ID token.
    pub issuer: String,
    /// Their subject there.
    pub subject: String,
}

/// A scope in words, exactly, and how it ends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplanationView {
    /// One fact a line.
    pub words: Vec<String>,
    /// What the target is sent.
    pub exact: String,
    /// How access ends, one fact a line.
    pub ending: Vec<String>,
    /// What of the work may outlive the credential, one fact a line.
    pub outlives: Vec<String>,
}

/// A lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    #[serde(default)]
    pub state: Option<String>,
    /// Since when it is seen to be cut off.
    #[serde(default)]
    pub cut_off_at: Option<String>,
    /// When it ends by itself.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// Why it is being ended.
    #[serde(default)]
    pub cause: Option<String>,
    /// Since when it is being ended.
    #[serde(default)]
    pub since: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What the kill switch of a role group did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuardShutView {
    /// The guard.
    pub guard: String,
    /// The leases it ends.
    #[serde(default)]
    pub leases: Vec<String>,
    /// Whether the guard denies their sessions already; if not, it is tried again for ever.
    #[serde(default)]
    pub published: bool,
}

/// A target, as the operator sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// The server it stands for by the ledger.
    #[serde(default)]
    pub server: Option<String>,
    /// The server that answered last.
    #[serde(default)]
    pub seen: Option<String>,
    /// Why the last look gave no server.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Whether the two servers are the same.
    #[serde(default)]
    pub in_order: bool,
}

/// A wall clock and the ledger's time, which were apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApartView {
    /// What the wall clock showed.
    pub wall: String,
    /// The ledger's time.
    pub ledger: String,
}

/// An action that may be asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActionView {
    /// Its name.
    pub name: String,
    /// A short title.
    #[serde(default)]
    pub title: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// Where.
    #[serde(default)]
    pub target: String,
    /// Its parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterView>,
    /// How long its credential lives.
    #[serde(default)]
    pub ttl: TtlView,
    /// Who reviews it.
    #[serde(default)]
    pub review: Map<String, Value>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A parameter of an action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParameterView {
    /// `text`, `choice`, `integer`, `boolean`, or a word to come.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What to give, in words.
    #[serde(default)]
    pub hint: Option<String>,
    /// Everything else: bounds, values, pattern.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// How long a credential lives.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TtlView {
    /// When nothing is said.
    pub default_seconds: u64,
    /// At most.
    pub longest_seconds: u64,
}

/// What to ask for.
#[derive(Clone, Debug, Serialize)]
pub struct NewRequest {
    /// The action.
    pub action: String,
    /// Its parameters.
    pub parameters: Map<String, Value>,
    /// For how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Why, for the reviewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// More words for the reviewer: task, ticket, model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// The person the agent acts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<OnBehalfOf>,
}

impl NewRequest {
    /// Asks for `action` without parameters.
    pub fn new(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            parameters: Map::new(),
            ttl_seconds: None,
            reason: None,
            context: BTreeMap::new(),
            on_behalf_of: None,
        }
    }

    /// Says why.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Gives one parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }
}

/// An access token from `/v1/token`.
#[derive(Debug, Deserialize)]
pub struct AccessToken {
    /// The token.
    pub access_token: SecretString,
    /// How long it is good for, in seconds.
    pub expires_in: u64,
}

/// An agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Everything else: owner, proof, origin.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An agent to enrol.
#[derive(Clone, Debug, Serialize)]
pub struct NewAgent {
    /// Its name.
    pub name: String,
    /// Who answers for it: `PEOPLE:SUBJECT` or `group:NAME`.
    pub owner: String,
    /// How it proves itself.
    pub proof: Value,
}

/// An enrolled agent, with its API key if it has one. Shown once.
#[derive(Debug, Deserialize)]
pub struct EnrolledView {
    /// The agent.
    pub agent: AgentView,
    /// The key, this once.
    #[serde(default)]
    pub api_key: Option<SecretString>,
}

/// One entry of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerEntryView {
    /// Its index.
    pub seq: u64,
    /// Its canonical text.
    pub entry: String,
    /// Its leaf hash (RFC 6962), in hexadecimal.
    pub leaf: String,
    /// Key id and signature over the checkpoint up to and including it, in base64, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_and_words_are_kept() {
        let json = r#"{"id":"req_x","state":"dreaming","outcome":"vanished","tomorrow":[1]}"#;
        let request: RequestView = serde_json::from_str(json).unwrap();
        assert_eq!(request.state, State::Other("dreaming".into()));
        let back = serde_json::to_value(&request).unwrap();
        assert_eq!(back["tomorrow"][0], 1);
        assert_eq!(back["state"], "dreaming");
    }
}
