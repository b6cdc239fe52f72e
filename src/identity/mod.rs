//! Who is asking, and who is deciding.
//!
//! * [`agents`] — a bearer token to an agent or the operator; an assertion to a short-lived access token
//! * [`reviewers`] — people sign in through OpenID Connect
//! * [`sessions`] — what a browser holds after that
//! * [`dev_idp`] — an identity provider for trying things out, on loopback only
//!
//! Promises: no credential is ever stored, logged or put into an error, only its SHA-256; every doubt is a
//! refusal; an outsider learns that a credential was refused, the log learns why.

pub mod agents;
mod bytes;
pub mod dev_idp;
mod fetch;
mod jwks;
mod jwt;
pub mod keys;
mod provider;
pub mod reviewers;
pub mod sessions;

pub use agents::{AccessToken, AgentDirectory, Agents, AuthError, Grant, Principal};
pub use fetch::SetupError;
pub use reviewers::{CallbackParams, Provider, Reviewers, SignInError, SignedIn, Start};
pub use sessions::{Cookie, Session, Sessions};

/// What identity needs from outside: a place that remembers, the time, randomness.
#[derive(Clone)]
pub struct Ports {
    /// Where sessions, sign-in states and used tokens are remembered, by their hashes.
    pub shelf: crate::store::Shelf,
    /// The time.
    pub clock: std::sync::Arc<dyn crate::system::Clock>,
    /// Randomness.
    pub entropy: std::sync::Arc<dyn crate::system::Entropy>,
}

/// The audience agents put into their tokens for this broker: its `public_url` without a trailing slash.
pub fn audience(public_url: &url::Url) -> String {
    public_url.as_str().trim_end_matches('/').to_owned()
}
