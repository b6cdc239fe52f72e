//! `POST /v1/requests/{id}/credential`: the one answer of the API that holds a secret.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::broker::{AwsCredential, Credential, MariadbCredential, PostgresCredential};
use crate::domain::{RequestId, Time};
use crate::http::auth::{Caller, CallingAgent, visible};
use crate::http::body::NoBody;
use crate::http::headers::{Id, IdempotencyKey};
use crate::http::view::RequestView;
use crate::http::{Api, Problem};

/// A collected credential.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "request": {"id": "req_01kb0m4v9s1a2b3c4d5e6f7g8h", "state": "live"},
    "lease": {"id": "lse_01kb0m5v9s1a2b3c4d5e6f7g8h", "expires_at": "2026-11-22T10:45:00.000Z",
        "acknowledge_by": "2026-11-22T10:31:00.000Z"},
    "credential": {"kind": "postgres", "host": "db.example.com", "port": 5432, "database": "shop",
        "user": "jit_01kb0m5v9s1a2b3c4d5e6f7g8h", "password": "…", "sslmode": "verify-full", "ca_pem": null}
}))]
pub struct CollectedView {
    /// The request, live now.
    request: RequestView,
    /// Its lease.
    lease: CollectedLease,
    /// The credential, handed over once.
    credential: CredentialView,
}

/// The lease of a collected credential.
#[derive(Serialize, ToSchema)]
pub struct CollectedLease {
    /// Its id.
    id: String,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
    /// Until when to acknowledge it: `POST /v1/leases/{id}/acknowledge`. It is ended otherwise.
    #[schema(value_type = String, format = DateTime)]
    acknowledge_by: Time,
}

/// A credential, by its kind.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CredentialView {
    /// A PostgreSQL login role.
    Postgres {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Database.
        database: String,
        /// Role.
        user: String,
        /// Password.
        #[serde(serialize_with = "hand_over")]
        #[schema(value_type = String)]
        password: SecretString,
        /// libpq `sslmode`.
        sslmode: String,
        /// The CA certificate to trust, PEM, when the mode verifies.
        ca_pem: Option<String>,
    },
    /// A session of an AWS role.
    Aws {
        /// Access key id.
        access_key_id: String,
        /// Secret access key.
        #[serde(serialize_with = "hand_over")]
        #[schema(value_type = String)]
        secret_access_key: SecretString,
        /// Session token.
        #[serde(serialize_with = "hand_over")]
        #[schema(value_type = String)]
        session_token: SecretString,
        /// Account of the role.
        account_id: String,
        /// Region to work in.
        region: String,
        /// From then on it is denied everything.
        #[schema(value_type = String, format = DateTime)]
        expires_at: Time,
    },
    /// A MariaDB account.
    Mariadb {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Database to start in.
        database: String,
        /// Account name.
        user: String,
        /// Password.
        #[serde(serialize_with = "hand_over")]
        #[schema(value_type = String)]
        password: SecretString,
        /// Whether to encrypt, and to verify the server's certificate and name.
        verify_tls: bool,
        /// The CA certificate to trust, PEM, when it is verified.
        ca_pem: Option<String>,
    },
}

/// The one place where a minted secret is written out.
fn hand_over<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// Collect the credential
///
/// Everything is checked again, then it is minted and handed over, once. The same `Idempotency-Key` again means
/// that the answer was lost: the first credential is ended and another one minted under the same approval. Any
/// other second collect is 410. Acknowledge the lease at once: an answer that nobody acknowledges within a minute
/// counts as lost, too.
#[utoipa::path(
    post, path = "/v1/requests/{id}/credential", operation_id = "collect_credential", tag = "requests",
    params(
        ("id" = String, Path, description = "The request.", example = "req_01kb0m4v9s1a2b3c4d5e6f7g8h"),
        ("Idempotency-Key" = String, Header, description = "A fresh UUID; the same when you retry.", example = "8e03978e-40d5-43e8-bc93-6894a57f9324")
    ),
    responses((status = 200, description = "The credential. Never cached, never shown again.", body = CollectedView))
)]
pub async fn collect(
    State(api): State<Api>,
    CallingAgent(agent): CallingAgent,
    Caller(caller): Caller,
    Id(id): Id<RequestId>,
    key: IdempotencyKey,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    let key = key.required()?;
    let before = visible(&api, &caller, &id).await?;
    let collected = api.broker.collect(&agent.name, &id, &key).await?;
    // The credential exists from here on: a failing read must not keep it from its agent.
    let request = api
        .broker
        .request(&id)
        .await
        .ok()
        .flatten()
        .unwrap_or(before);
    let view = CollectedView {
        request: RequestView::of(&api, &request),
        lease: CollectedLease {
            id: collected.lease.to_string(),
            expires_at: collected.expires,
            acknowledge_by: collected.acknowledge_by,
        },
        credential: show(collected.credential),
    };
    let bytes = serde_json::to_vec(&view).map_err(|_| Problem::internal())?;
    let body = Body::from(Bytes::from_owner(Zeroizing::new(bytes)));
    let mut response = (StatusCode::OK, body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn show(credential: Credential) -> CredentialView {
    match credential {
        Credential::Postgres(PostgresCredential {
            host,
            port,
            database,
            user,
            password,
            sslmode,
            ca_pem,
        }) => CredentialView::Postgres {
            host,
            port,
            database,
            user,
            password,
            sslmode,
            ca_pem,
        },
        Credential::Aws(AwsCredential {
            access_key_id,
            secret_access_key,
            session_token,
            account_id,
            region,
            expires,
        }) => CredentialView::Aws {
            access_key_id,
            secret_access_key,
            session_token,
            account_id,
            region,
            expires_at: expires,
        },
        Credential::Mariadb(MariadbCredential {
            host,
            port,
            database,
            user,
            password,
            verify_tls,
            ca_pem,
        }) => CredentialView::Mariadb {
            host,
            port,
            database,
            user,
            password,
            verify_tls,
            ca_pem,
        },
    }
}
