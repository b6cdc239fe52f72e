//! A shop's database, prepared the way a DBA would, and agents that use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::config::{DatabaseTls, PostgresTarget};
use countersign::domain::{LeaseId, ServerId, lease};
use countersign::issuers::postgres::{PostgresIssuer, preparation_sql};
use countersign::issuers::{Credential, Issuer, MintError, PostgresCredential, Proof};
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
    /// May read customers (by country), orders.
    pub group: String,
    /// A second database of the same cluster, open to everybody, once it is made.
    pub other: String,
}

pub fn issuer_for(
    target: &PostgresTarget,
    password: &str,
    root_pem: Option<String>,
) -> Result<PostgresIssuer, String> {
    PostgresIssuer::new(
        &"shop".parse().unwrap(),
        target,
        SecretString::from(password),
        root_pem,
        Arc::new(SystemEntropy),
        Arc::new(SystemClock::start()),
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
            quarantine_role: format!("orphans_{id}"),
            tls: DatabaseTls::Disable,
            max_connections: 4,
            accept_pg15_createrole: server.version == 15,
            longest_ttl_seconds: 3600,
        };
        let mut root = PgConnection::connect(server.url.as_str()).await.unwrap();
        run(&mut root, &format!("CREATE DATABASE {shop}")).await;
        let mut url = server.url.clone();
        url.set_path(&shop);
        let mut admin = PgConnection::connect(url.as_str()).await.unwrap();
        let group = format!("group_{id}");
        run(
            &mut admin,
            &preparation_sql(&target, &[scope_of(&group)]).unwrap(),
        )
        .await;
        let password = "dba-chose-this-one";
        run(
            &mut admin,
            &format!("ALTER ROLE {} PASSWORD '{password}'", target.user),
        )
        .await;
        run(
            &mut admin,
            &format!(
                "CREATE SCHEMA sales;
                 CREATE TABLE sales.customers (id int PRIMARY KEY, name text, country text);
                 INSERT INTO sales.customers SELECT n, 'c' || n, (ARRAY['de','fr'])[1 + n % 2] FROM generate_series(1, 1000) n;
                 ALTER TABLE sales.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                 CREATE POLICY lease_rows ON sales.customers USING (country IN (
                     SELECT value FROM countersign.lease_scope WHERE role_name = SESSION_USER AND key = 'country'));
                 CREATE TABLE sales.salaries (id int, amount int);
                 GRANT USAGE, CREATE ON SCHEMA sales TO {group};
                 GRANT SELECT ON sales.customers TO {group};"
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
            other,
        }
    }

    /// Reads German customers.
    pub fn scope(&self) -> Value {
        scope_of(&self.group)
    }

    pub async fn mint(&self) -> Agent {
        let lease = draw_lease();
        match self.try_mint(&lease, &self.scope()).await {
            Ok(credential) => Agent {
                handle: lease::handle_of(&lease),
                credential,
            },
            Err(error) => panic!("mint on {}: {error}", self.server.version),
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
        let ended = self.issuer.end(&ending(&agent.handle, &self.scope())).await;
        ended.unwrap_or_else(|error| panic!("end on {}: {error}", self.server.version));
    }

    /// Ends and checks everything a target can show of it.
    pub async fn end_for_good(&mut self, agent: &Agent) {
        self.end(agent).await;
        let proof = self
            .issuer
            .prove(&ending_at(&agent.handle, None))
            .await
            .unwrap();
        let gone = ["no_role", "no_session", "no_prepared_transaction"];
        assert_eq!(proof, Proof::gone(gone));
        assert!(agent.log_in().await.is_err());
        let handle = &agent.handle;
        let left = column(
            &mut self.admin,
            &format!(
                "SELECT 'role' FROM pg_roles WHERE rolname = '{handle}'
                 UNION ALL SELECT 'session' FROM pg_stat_activity WHERE usename = '{handle}'
                 UNION ALL SELECT 'prepared' FROM pg_prepared_xacts WHERE owner = '{handle}'
                 UNION ALL SELECT 'row' FROM countersign.lease_scope WHERE role_name = '{handle}'"
            ),
        )
        .await;
        assert_eq!(left, Vec::<String>::new());
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
        for role in [group, target.user, target.quarantine_role] {
            run(&mut root, &format!("DROP ROLE IF EXISTS {role}")).await;
        }
    }
}

/// An agent with a minted credential.
pub struct Agent {
    pub handle: String,
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
