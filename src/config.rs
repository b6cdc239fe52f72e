//! The server's configuration: one typed tree, unknown keys refused. Parses and touches nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::domain::{GuardName, TargetName};

/// `countersign.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where and as whom the broker listens.
    pub server: ServerConfig,
    /// Where the ledger is kept.
    #[serde(default)]
    pub store: StoreConfig,
    /// Where credentials are minted.
    #[serde(default)]
    pub targets: BTreeMap<TargetName, TargetConfig>,
    /// Deny lists in AWS that cut single sessions off; each is shared by the targets that name it.
    #[serde(default)]
    pub guards: BTreeMap<GuardName, GuardConfig>,
    /// How the broker reaches AWS; needed by targets of kind `aws_sts`.
    #[serde(default)]
    pub aws: Option<AwsConfig>,
    /// OpenID providers that sign people in, by a short name used in `owner = "NAME:SUBJECT"`.
    #[serde(default)]
    pub people: BTreeMap<String, PeopleConfig>,
    /// Issuers of agents' JWTs, by a short name used in the catalog.
    #[serde(default)]
    pub workloads: BTreeMap<String, WorkloadConfig>,
}

/// Where and as whom the broker listens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address to listen on. A non-loopback address needs an `https` `public_url` (TLS ends at a proxy in front).
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// How people and agents reach it; also the audience of agents' tokens and the log's origin.
    pub public_url: Url,
    /// Directory for the signing key, the operator token and an embedded ledger; created with mode 0700.
    pub state_dir: PathBuf,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7480))
}

/// Where the ledger is kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreConfig {
    /// One SQLite file, `ledger.db` in the state directory.
    #[default]
    Sqlite,
    /// A PostgreSQL database, for any number of brokers.
    Postgres {
        /// File holding the connection URL (it has a password in it).
        url_file: PathBuf,
    },
}

/// A target.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetConfig {
    /// A PostgreSQL cluster.
    Postgres(PostgresTarget),
    /// A MariaDB server.
    Mariadb(MariadbTarget),
    /// A role in an AWS account.
    AwsSts(AwsTarget),
}

/// How the broker reaches AWS. `AWS_ENDPOINT_URL` and proxy variables are never read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsConfig {
    /// Region of the STS endpoint, such as `eu-central-1`.
    pub region: String,
    /// Where the broker's own credentials come from. Nothing else is tried.
    pub credentials: AwsLogin,
    /// Other addresses of AWS's services, for an emulator or a private endpoint.
    #[serde(default)]
    pub endpoints: AwsEndpoints,
}

/// Where the broker's own AWS credentials come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AwsLogin {
    /// `AWS_ACCESS_KEY_ID` and its companions.
    Environment,
    /// The `default` profile of the shared configuration files.
    Profile,
    /// A web identity token file, as on EKS with IRSA.
    WebIdentity,
    /// The container endpoint, as on ECS and with EKS Pod Identity.
    Container,
    /// The instance metadata service of EC2.
    Instance,
}

/// Addresses of AWS's services other than the public ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsEndpoints {
    /// STS.
    #[serde(default)]
    pub sts: Option<Url>,
    /// IAM.
    #[serde(default)]
    pub iam: Option<Url>,
    /// The service of the canary call, with which the broker proves that a session is denied.
    #[serde(default)]
    pub canary: Option<Url>,
}

/// A role whose sessions are handed out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsTarget {
    /// The role, such as `arn:aws:iam::111111111111:role/countersign/orders`.
    pub role_arn: String,
    /// The external id in the role's trust policy; unique to this target.
    pub external_id: String,
    /// The guard whose policy is the role's permissions boundary.
    pub guard: GuardName,
    /// The region agents work in; `aws.region` when absent.
    #[serde(default)]
    pub region: Option<String>,
    /// Longest credential lifetime, in seconds: at most 3600.
    #[serde(default = "default_aws_longest_ttl")]
    pub longest_ttl_seconds: u64,
}

fn default_aws_longest_ttl() -> u64 {
    3600
}

/// A deny list in AWS.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GuardConfig {
    /// A customer-managed policy that is the permissions boundary of every role in the group. The broker may do
    /// nothing but write its versions.
    Boundary {
        /// The policy, such as `arn:aws:iam::111111111111:policy/countersign/guard-orders`.
        policy_arn: String,
        /// The role that may write it, when it is in another account than the broker.
        #[serde(default)]
        writer: Option<GuardWriter>,
    },
    /// An inline policy of one role, for roles whose boundary is taken. The broker then needs `iam:PutRolePolicy` on
    /// that role.
    Inline {
        /// The role that carries the policy `countersign-guard`.
        role_arn: String,
        /// The role that may write it, when it is in another account than the broker.
        #[serde(default)]
        writer: Option<GuardWriter>,
    },
}

/// A role that may write a guard in another account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardWriter {
    /// The role.
    pub role_arn: String,
    /// The external id in its trust policy.
    pub external_id: String,
}

/// A MariaDB server in which accounts are made, through procedures the DBA has prepared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MariadbTarget {
    /// Host name or address.
    pub host: String,
    /// Port.
    #[serde(default = "default_mariadb_port")]
    pub port: u16,
    /// The database agents start in.
    pub database: String,
    /// The database that holds the broker's procedures.
    #[serde(default = "default_procedures_database")]
    pub procedures: String,
    /// The broker's account. It may call those procedures and do nothing else.
    pub user: String,
    /// File holding the broker's password.
    pub password_file: PathBuf,
    /// The server's `extra_port`, if it has one: where ends go when the other port has no room.
    #[serde(default)]
    pub extra_port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: DatabaseTls,
    /// How the server checks leases' passwords.
    #[serde(default)]
    pub authentication: MariadbAuthentication,
    /// Most connections the broker opens to it, at least 3: two of them are for ends.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
    /// Longest credential lifetime, in seconds.
    #[serde(default = "default_longest_ttl")]
    pub longest_ttl_seconds: u64,
}

/// How a MariaDB server checks leases' passwords.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MariadbAuthentication {
    /// `mysql_native_password`: every client speaks it.
    #[default]
    Native,
    /// `ed25519`: for clients that have the plugin, such as `mariadb` and Connector/J.
    Ed25519,
}

fn default_mariadb_port() -> u16 {
    3306
}

fn default_procedures_database() -> String {
    "countersign".into()
}

/// A PostgreSQL cluster in which roles are made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresTarget {
    /// Host name or address.
    pub host: String,
    /// Port.
    #[serde(default = "default_postgres_port")]
    pub port: u16,
    /// The database leases are for unless their scope names another.
    pub database: String,
    /// The broker's role. It may call our functions and do nothing else.
    pub user: String,
    /// File holding the broker's password.
    pub password_file: PathBuf,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: DatabaseTls,
    /// The schema of our functions in each prepared database, and the prefix of our roles.
    #[serde(default = "default_procedures_schema")]
    pub procedures: String,
    /// How many roles share the making of leases: a mint and an end take longer the more leases live at once for each.
    #[serde(default = "default_minters")]
    pub minters: u32,
    /// Most connections the broker opens to it.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
    /// Longest credential lifetime, in seconds.
    #[serde(default = "default_longest_ttl")]
    pub longest_ttl_seconds: u64,
}

fn default_postgres_port() -> u16 {
    5432
}

fn default_procedures_schema() -> String {
    "countersign".into()
}

fn default_minters() -> u32 {
    128
}

fn default_connections() -> u32 {
    8
}

fn default_longest_ttl() -> u64 {
    12 * 3600
}

/// How a connection to a database is protected.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum DatabaseTls {
    /// Encrypted, certificate and host name verified.
    #[default]
    VerifyFull,
    /// As above, trusting only the authorities in this PEM file.
    VerifyFullWith {
        /// PEM file.
        root_file: PathBuf,
    },
    /// In clear. Accepted for loopback addresses and Unix sockets only.
    Disable,
}

/// An OpenID provider that signs people in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleConfig {
    /// Exact issuer URL.
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// File holding our client secret; public clients have none.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// The claim that lists groups.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Scopes to ask for besides `openid`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The algorithm ID tokens are signed with.
    #[serde(default = "default_id_token_algorithm")]
    pub algorithm: String,
    /// How long a session lasts, in seconds.
    #[serde(default = "default_session_seconds")]
    pub session_seconds: u64,
    /// Whether the provider may live at private addresses (10.0.0.0/8 and the like).
    #[serde(default)]
    pub private_network: bool,
}

fn default_groups_claim() -> String {
    "groups".into()
}

fn default_id_token_algorithm() -> String {
    "RS256".into()
}

fn default_session_seconds() -> u64 {
    8 * 3600
}

/// An issuer of agents' JWTs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadConfig {
    /// Exact `iss`.
    pub issuer: String,
    /// Where its keys are; `https`, or `http` on loopback. Found by discovery when absent.
    #[serde(default)]
    pub jwks_url: Option<Url>,
    /// The audience its tokens must name; the broker's `public_url` when absent.
    #[serde(default)]
    pub audience: Option<String>,
    /// The one algorithm its tokens are signed with: RS256, PS256, ES256, ES384 or EdDSA.
    pub algorithm: String,
    /// Longest accepted token life (`exp` minus `iat`), in seconds.
    #[serde(default = "default_token_life")]
    pub longest_token_seconds: u64,
    /// Whether each token (`jti`) is good for one exchange only.
    #[serde(default)]
    pub single_use: bool,
    /// Whether the issuer may live at private addresses (10.0.0.0/8 and the like).
    #[serde(default)]
    pub private_network: bool,
}

fn default_token_life() -> u64 {
    3600
}

impl Config {
    /// Parses the text of `countersign.toml`.
    ///
    /// # Errors
    /// Where in the text the mistake is, and what it is.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}
