//! A shop's database, prepared the way a DBA would, and agents that use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::config::{DatabaseTls, PostgresTarget};
use countersign::domain::{LeaseId, ServerId, lease};
use countersign::issuers::postgres::{PostgresIssuer, preparation_parts};
use countersign::issuers::{Credential, Deployment, Issuer, MintError, PostgresCredential, Proof};
use countersign::system::{SystemClock, SystemEntropy};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

pub use super::conformance::{draw_lease, ending, ending_at, order_for, until};
use crate::support::PostgresServer;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A prepared database of one server, with names nobody else uses.
pub struct Shop {
    pub server: PostgresServer,
    pub target: PostgresTarget,
    pub password: String,
    pub issuer: PostgresIssuer,
    /// The server, as the issuer tells it.
    pub identity: ServerId,
    /// Superuser, in the shop's database.
    pub admin: PgConnection,
    /// May read customers (by country).
    pub group: String,
    /// Owns the schema `app`, in which leases act as it.
    pub owner: String,
    /// An application: reads and writes what is in the schema `app`.
    pub application: String,
    /// A second database of the same cluster, open to everybody, once it is made.
    pub other: String,
}

pub fn issuer_for(
    target: &PostgresTarget,
    password: &str,
    root_pem: Option<String>,
) -> Result<PostgresIssuer, String> {
    new_issuer(target, password, root_pem, Deployment::of("shop"))
}

/// An issuer of another deployment.
pub fn issuer_of(
    target: &PostgresTarget,
    password: &str,
    deployment: Deployment,
) -> PostgresIssuer {
    new_issuer(target, password, None, deployment).unwrap()
}

fn new_issuer(
    target: &PostgresTarget,
    password: &str,
    root_pem: Option<String>,
    deployment: Deployment,
) -> Result<PostgresIssuer, String> {
    PostgresIssuer::new(
        &"shop".parse().unwrap(),
        target,
        SecretString::from(password),
        root_pem,
        Arc::new(SystemEntropy),
        Arc::new(SystemClock::start()),
        deployment,
    )
}

/// Runs statements; panics with the server's words.
pub async fn run(connection: &mut PgConnection, sql: &str) {
    if let Err(error) = attempt(connection, sql).await {
        panic!("{sql}: {error}");
    }
}

/// Runs statements.
pub async fn attempt(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    query.execute(connection).await.map(|_| ())
}

/// The first column of all rows, as text.
pub async fn column(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter()
        .map(|row| {
            row.try_get_unchecked::<Option<String>, _>(0)
                .unwrap()
                .unwrap_or_default()
        })
        .collect()
}

fn scope_of(group: &str) -> Value {
    json!({"roles": [group], "rows": {"country": "de"}})
}

impl Shop {
    pub async fn open(server: &PostgresServer) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let id = format!("{}_{number}", std::process::id());
        let shop = format!("shop_{id}");
        let other = format!("other_{id}");
        let target = PostgresTarget {
            host: server.url.host_str().unwrap().into(),
            port: server.url.port().unwrap(),
            database: shop.clone(),
            user: format!("broker_{id}"),
            password_file: "unused".into(),
            procedures: format!("cs_{id}"),
            minters: 2,
            tls: DatabaseTls::Disable,
            max_connections: 4,
            longest_ttl_seconds: 3600,
        };
        let mut root = PgConnection::connect(server.url.as_str()).await.unwrap();
        run(&mut root, &format!("CREATE DATABASE {shop}")).await;
        let mut url = server.url.clone();
        url.set_path(&shop);
        let mut admin = PgConnection::connect(url.as_str()).await.unwrap();
        let [group, owner, application] =
            ["group", "owner", "application"].map(|name| format!("{name}_{id}"));
        let scopes = [scope_of(&group), json!({"as": owner})];
        for part in preparation_parts(&target, &scopes).unwrap() {
            run(&mut admin, &part.sql).await;
        }
        let password = "dba-chose-this-one";
        let (broker, procedures) = (&target.user, &target.procedures);
        // Where leases can act as their groups, groups that may create are refused.
        let create = if server.version > 15 { ", CREATE" } else { "" };
        run(
            &mut admin,
            &format!(
                "ALTER ROLE {broker} PASSWORD '{password}';
                 CREATE SCHEMA sales;
                 CREATE TABLE sales.customers (id int PRIMARY KEY, name text, country text);
                 INSERT INTO sales.customers SELECT n, 'c' || n, (ARRAY['de','fr'])[1 + n % 2] FROM generate_series(1, 1000) n;
                 ALTER TABLE sales.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                 CREATE POLICY lease_rows ON sales.customers USING (country IN (
                     SELECT value FROM {procedures}.lease_scope WHERE role_name = SESSION_USER AND key = 'country'));
                 CREATE TABLE sales.salaries (id int, amount int);
                 GRANT USAGE{create} ON SCHEMA sales TO {group};
                 GRANT SELECT ON sales.customers TO {group};
                 CREATE ROLE {application} LOGIN PASSWORD '{password}';
                 GRANT CONNECT ON DATABASE {shop} TO {application};
                 CREATE SCHEMA app AUTHORIZATION {owner};
                 GRANT USAGE ON SCHEMA app TO {application};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA app GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {application};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA app GRANT USAGE ON SEQUENCES TO {application};"
            ),
        )
        .await;
        let issuer = issuer_for(&target, password, None).unwrap();
        Self {
            server: server.clone(),
            target,
            password: password.into(),
            identity: issuer.identify().await.unwrap(),
            issuer,
            admin,
            group,
            owner,
            application,
            other,
        }
    }

    /// Reads German customers.
    pub fn scope(&self) -> Value {
        scope_of(&self.group)
    }

    /// Acts as the owner of the schema `app`.
    pub fn owner_scope(&self) -> Value {
        json!({"as": self.owner})
    }

    pub async fn mint(&self) -> Agent {
        self.mint_with(&self.scope()).await
    }

    pub async fn mint_with(&self, scope: &Value) -> Agent {
        let lease = draw_lease();
        match self.try_mint(&lease, scope).await {
            Ok(credential) => Agent {
                handle: lease::handle_of(&lease),
                scope: scope.clone(),
                credential,
            },
            Err(error) => panic!("mint on {}: {error}", self.server.version),
        }
    }

    /// The code and the words with which a mint of `scope` is refused.
    pub async fn refused(&self, scope: &Value) -> (String, String) {
        match self.try_mint(&draw_lease(), scope).await {
            Err(MintError::Refused { code, detail }) => (code, detail),
            other => panic!("on {}: {other:?}", self.server.version),
        }
    }

    pub async fn try_mint(
        &self,
        lease: &LeaseId,
        scope: &Value,
    ) -> Result<PostgresCredential, MintError> {
        match self
            .issuer
            .mint(&order_for(lease, scope, &self.identity))
            .await?
        {
            Credential::Postgres(credential) => Ok(credential),
            other => panic!("not a PostgreSQL credential: {other:?}"),
        }
    }

    pub async fn end(&self, agent: &Agent) {
        let ended = self.issuer.end(&ending(&agent.handle, &agent.scope)).await;
        ended.unwrap_or_else(|error| panic!("end on {}: {error}", self.server.version));
    }

    /// Ends and checks everything a target can show of it; gives what was left behind.
    pub async fn end_for_good(&mut self, agent: &Agent) -> Vec<String> {
        let ended = self
            .issuer
            .end_and_prove(&ending(&agent.handle, &agent.scope))
            .await;
        let ended = ended.unwrap_or_else(|error| panic!("end on {}: {error}", self.server.version));
        let Proof::Gone { seen, left: behind } = ended else {
            panic!("on {}: {ended:?}", self.server.version);
        };
        assert_eq!(seen, ["no_role", "no_session", "no_prepared_transaction"]);
        assert!(agent.log_in().await.is_err());
        let (handle, procedures) = (&agent.handle, &self.target.procedures);
        let left = column(
            &mut self.admin,
            &format!(
                "SELECT 'role' FROM pg_roles WHERE rolname = '{handle}'
                 UNION ALL SELECT 'session' FROM pg_stat_activity WHERE usename = '{handle}'
                 UNION ALL SELECT 'prepared' FROM pg_prepared_xacts WHERE owner = '{handle}'
                 UNION ALL SELECT 'row' FROM {procedures}.lease_scope WHERE role_name = '{handle}'"
            ),
        )
        .await;
        assert_eq!(left, Vec::<String>::new());
        behind
    }

    pub fn broker_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&self.target.host)
            .port(self.target.port)
            .username(&self.target.user)
            .password(&self.password)
            .database(&self.target.database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// Makes the second database; gives a superuser's session in it.
    pub async fn open_other(&mut self) -> PgConnection {
        run(&mut self.admin, &format!("CREATE DATABASE {}", self.other)).await;
        let mut there = self.admin_in(&self.other).await;
        run(&mut there, "GRANT CREATE ON SCHEMA public TO PUBLIC").await;
        there
    }

    /// Runs what prepares the shop's database again, as for a catalog with `scope`.
    pub async fn prepare_again(&mut self, scope: &Value) {
        let scopes = [scope.clone(), self.owner_scope()];
        for part in preparation_parts(&self.target, &scopes).unwrap() {
            run(&mut self.admin, &part.sql).await;
        }
    }

    /// Makes the second database and prepares it.
    pub async fn prepare_other(&mut self) -> PgConnection {
        let mut there = self.open_other().await;
        let elsewhere = json!({"roles": [self.group], "database": self.other});
        for part in preparation_parts(&self.target, &[elsewhere]).unwrap() {
            if part.database == self.other {
                run(&mut there, &part.sql).await;
            }
        }
        there
    }

    /// Superuser in any database.
    pub async fn admin_in(&self, database: &str) -> PgConnection {
        let mut url = self.server.url.clone();
        url.set_path(database);
        PgConnection::connect(url.as_str()).await.unwrap()
    }

    /// Removes the shop and its roles.
    pub async fn close(self) {
        let Shop {
            server,
            target,
            admin,
            group,
            owner,
            application,
            other,
            issuer,
            ..
        } = self;
        drop(issuer);
        drop(admin);
        let mut root = PgConnection::connect(server.url.as_str()).await.unwrap();
        for database in [&target.database, &other] {
            run(
                &mut root,
                &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"),
            )
            .await;
        }
        let procedures = &target.procedures;
        let ours = ["minter_000", "minter_001", "keeper", "granter"]
            .map(|name| format!("{procedures}_{name}"));
        for role in [group, owner, application, target.user].iter().chain(&ours) {
            run(&mut root, &format!("DROP ROLE IF EXISTS {role}")).await;
        }
    }
}

/// An agent with a minted credential.
pub struct Agent {
    pub handle: String,
    pub scope: Value,
    pub credential: PostgresCredential,
}

impl Agent {
    pub async fn log_in(&self) -> Result<PgConnection, sqlx::Error> {
        self.log_in_to(&self.credential.database).await
    }

    pub async fn log_in_to(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnectOptions::new_without_pgpass()
            .host(&self.credential.host)
            .port(self.credential.port)
            .username(&self.credential.user)
            .password(self.credential.password.expose_secret())
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .connect()
            .await
    }

    /// A session that works.
    pub async fn session(&self) -> PgConnection {
        let mut session = self.log_in().await.unwrap();
        run(&mut session, "SELECT 1").await;
        session
    }
}

/// Asserts that nothing can be done with an open session.
pub async fn assert_dead(session: &mut PgConnection) {
    assert!(attempt(session, "SELECT 1").await.is_err());
}
