//! Client for the Countersign HTTP API.
//!
//! What it promises:
//!
//! * a secret is never printed: tokens, keys and passwords live in types that redact themselves
//! * it talks `https`, or `http` to this machine only, and follows no redirect
//! * a call is repeated after a failure only when repeating is safe: reads, calls that never left this machine, and calls with an
//!   [`IdempotencyKey`], which is the same in every attempt
//! * members and words it does not know are kept or ignored, never an error
//!
//! ```no_run
//! # async fn example(token: secrecy::SecretString, draw: [u8; 16]) -> Result<(), countersign_client::Error> {
//! use countersign_client::{Client, IdempotencyKey, NewRequest};
//!
//! let client = Client::new("https://countersign.example.com", token)?;
//! let ask = NewRequest::new("orders.report").reason("monthly report");
//! let request = client.submit(&ask, &IdempotencyKey::from_random(draw), None).await?;
//! println!("{} is {}", request.id, request.state);
//! # Ok(())
//! # }
//! ```

mod auth;
mod client;
mod credential;
mod error;
mod model;
mod transport;

pub use auth::{Credentials, Sources, read_seed, write_jwt};
pub use client::Client;
pub use credential::{AwsView, CollectedView, CredentialView, MariadbView, PostgresView};
pub use error::{Error, Mistake, Problem};
pub use model::{
    AccessToken, ActionView, AgentView, ApartView, EnrolledView, ExplanationView, GuardShutView,
    LeaseView, LedgerEntryView, NewAgent, NewRequest, OnBehalfOf, Outcome, Page, ParameterView,
    RequestView, ReviewView, State, TargetView, TtlView, VerdictView,
};
pub use transport::IdempotencyKey;
