//! Credentials as they are handed over. None of them is `Serialize`: they are handed on, never printed.

use secrecy::SecretString;
use serde::Deserialize;

use crate::model::LeaseView;

/// A collected credential. It is not `Serialize`: it is handed on, never printed.
#[derive(Debug, Deserialize)]
pub struct CollectedView {
    /// Its lease.
    pub lease: LeaseView,
    /// The credential.
    pub credential: CredentialView,
}

/// A credential by kind.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CredentialView {
    /// A PostgreSQL login.
    Postgres(PostgresView),
    /// A session of an AWS role.
    Aws(AwsView),
    /// A MariaDB account.
    Mariadb(MariadbView),
    /// A kind this client does not know.
    #[serde(other)]
    Unknown,
}

/// A PostgreSQL login.
#[derive(Debug, Deserialize)]
pub struct PostgresView {
    /// Host name, address or socket directory.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Password.
    pub password: SecretString,
    /// libpq's `sslmode`.
    pub sslmode: String,
    /// Authorities to trust, if not the system's.
    #[serde(default)]
    pub ca_pem: Option<String>,
}

/// A session of an AWS role.
#[derive(Debug, Deserialize)]
pub struct AwsView {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
    /// Session token.
    pub session_token: SecretString,
    /// Account of the role.
    pub account_id: String,
    /// Region to work in.
    pub region: String,
    /// From then on it is denied everything (RFC 3339).
    pub expires_at: String,
}

/// A MariaDB account.
#[derive(Debug, Deserialize)]
pub struct MariadbView {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database to start in.
    pub database: String,
    /// Account name.
    pub user: String,
    /// Password.
    pub password: SecretString,
    /// Whether to encrypt, and to verify the server's certificate and name.
    pub verify_tls: bool,
    /// Authorities to trust, if not the system's.
    #[serde(default)]
    pub ca_pem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_cannot_be_printed() {
        let json = r#"{"request":"req_x","lease":{"id":"lse_x"},"credential":{"kind":"postgres","host":"h","port":5432,
            "database":"d","user":"u","password":"hunter2","sslmode":"disable","ca_pem":null}}"#;
        let collected: CollectedView = serde_json::from_str(json).unwrap();
        assert!(!format!("{collected:?}").contains("hunter2"));
    }

    #[test]
    fn a_kind_of_credential_to_come_is_told_apart() {
        let json = r#"{"lease":{"id":"lse_x"},"credential":{"kind":"kerberos","keytab":"AAA"}}"#;
        let collected: CollectedView = serde_json::from_str(json).unwrap();
        assert!(matches!(collected.credential, CredentialView::Unknown));
    }
}
