//! PostgreSQL in the conformance suite, and what only PostgreSQL has to promise.

use countersign::domain::Seconds;
use countersign::issuers::{Credential, GuardContent, Issuer, MintError, PostgresCredential};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::conformance::{self, Bench};
use super::shop::{self, Agent, Shop, assert_dead, attempt, column, ending, run, until};
use crate::support::postgres_servers;

conformance::conforms!(suite, Shop);

/// What an end does, as far as it can be told apart from outside.
const STEPS: [&str; 5] = [
    "ALTER ROLE {r} NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL '-infinity'",
    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = '{r}'",
    "DROP OWNED BY {r} CASCADE",
    "DELETE FROM {p}.lease_scope WHERE role_name = '{r}'",
    "DROP ROLE {r}",
];

impl Bench for Shop {
    const MINT_MESSAGE: &'static str = "lease_mint";

    type Session = PgConnection;

    async fn open_all() -> Vec<Self> {
        let mut shops = Vec::new();
        for server in postgres_servers() {
            shops.push(Shop::open(&server).await);
        }
        shops
    }

    async fn close(self) {
        Shop::close(self).await;
    }

    fn issuer(&self, port: Option<u16>) -> Box<dyn Issuer> {
        let mut target = self.target.clone();
        target.port = port.unwrap_or(target.port);
        Box::new(shop::issuer_for(&target, &self.password, None).unwrap())
    }

    fn port(&self) -> u16 {
        self.target.port
    }

    fn scope(&self) -> Value {
        Shop::scope(self)
    }

    async fn begin(&self, credential: &Credential) -> Result<PgConnection, String> {
        let agent = agent(credential);
        let mut session = agent.log_in().await.map_err(|error| error.to_string())?;
        let countries = column(&mut session, "SELECT DISTINCT country FROM sales.customers").await;
        assert_eq!(countries, ["de"]);
        if self.server.version > 15 {
            // Something of its own, which stands in the way of dropping it.
            let own = format!("CREATE TABLE IF NOT EXISTS sales.of_{} ()", agent.handle);
            run(&mut session, &own).await;
        }
        Ok(session)
    }

    async fn works(&self, session: &mut PgConnection) -> bool {
        attempt(session, "SELECT 1").await.is_ok()
    }

    async fn try_beyond(&self, credential: &Credential) -> Vec<String> {
        let mut session = agent(credential).session().await;
        let mut let_through = Vec::new();
        let procedures = &self.target.procedures;
        for refused in [
            "SELECT * FROM sales.salaries",
            "UPDATE sales.customers SET name = 'x'",
            "INSERT INTO {p}.lease_scope VALUES (SESSION_USER, 'country2', 'fr')",
            "UPDATE {p}.lease_scope SET value = 'fr'",
            "SELECT * FROM {p}.lease",
            "SELECT {p}.lease_list()",
            "SELECT {p}.lease_kill('{}', '')",
            "SELECT {p}.as_minter('', '')",
            "SELECT {p}.as_minter_000('')",
            "CREATE ROLE mine",
            "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
            "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
            "ALTER TABLE sales.customers DISABLE ROW LEVEL SECURITY",
        ] {
            let refused = refused.replace("{p}", procedures);
            if attempt(&mut session, &refused).await.is_ok() {
                let_through.push(refused);
            }
        }
        let_through
    }

    async fn leftovers(&self, handle: &str) -> Vec<String> {
        let mut admin = self.admin_in(&self.target.database).await;
        let look = format!(
            "SELECT 'role' FROM pg_roles WHERE rolname = '{handle}'
             UNION ALL SELECT 'session' FROM pg_stat_activity WHERE usename = '{handle}'
             UNION ALL SELECT 'prepared' FROM pg_prepared_xacts WHERE owner = '{handle}'
             UNION ALL SELECT 'row' FROM {}.lease_scope WHERE role_name = '{handle}'",
            self.target.procedures
        );
        column(&mut admin, &look).await
    }

    async fn end_halfway(&self, handle: &str, _: &GuardContent, steps: usize) -> bool {
        let mut admin = self.admin_in(&self.target.database).await;
        for step in STEPS.iter().take(steps) {
            let step = step
                .replace("{r}", handle)
                .replace("{p}", &self.target.procedures);
            run(&mut admin, &step).await;
        }
        steps < STEPS.len()
    }
}

fn agent(credential: &Credential) -> Agent {
    let Credential::Postgres(credential) = credential else {
        panic!("not a PostgreSQL credential: {credential:?}");
    };
    Agent {
        handle: credential.user.clone(),
        scope: Value::Null,
        credential: PostgresCredential {
            host: credential.host.clone(),
            port: credential.port,
            database: credential.database.clone(),
            user: credential.user.clone(),
            password: credential.password.clone(),
            sslmode: credential.sslmode.clone(),
            ca_pem: credential.ca_pem.clone(),
        },
    }
}

#[tokio::test]
async fn limits_hold_and_all_sessions_die() {
    for server in postgres_servers() {
        let shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        assert_eq!(agent.credential.user, agent.handle);
        let mut session = agent.session().await;
        let timeout = column(&mut session, "SHOW statement_timeout").await;
        assert_eq!(timeout, ["1min"]);
        let mut sessions = vec![session, agent.session().await, agent.session().await];
        until(async || agent.log_in().await.is_err()).await;
        shop.end(&agent).await;
        for session in &mut sessions {
            assert_dead(session).await;
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn ends_may_overlap() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        if shop.server.version > 15 {
            run(&mut session, "CREATE TABLE sales.mine (id int)").await;
        }
        let scope = shop.scope();
        let end = async || shop.issuer.end(&ending(&agent.handle, &scope)).await;
        let _ = tokio::join!(end(), end(), end());
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

fn code(minted: Result<PostgresCredential, MintError>) -> String {
    match minted {
        Err(MintError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn refusals_have_stable_codes() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        drop(shop.open_other().await);
        let mint =
            async |shop: &Shop, scope| code(shop.try_mint(&shop::draw_lease(), &scope).await);
        assert_eq!(
            mint(&shop, json!({"roles": ["nobody_made_this"]})).await,
            "role_missing"
        );
        assert_eq!(mint(&shop, json!({"roles": ["{role}"]})).await, "bad_scope");
        let nowhere = json!({"roles": [shop.group], "database": "nowhere"});
        assert_eq!(mint(&shop, nowhere).await, "database_missing");
        let unprepared = json!({"roles": [shop.group], "database": shop.other});
        assert_eq!(mint(&shop, unprepared).await, "not_prepared");
        let minters = &shop.target.procedures;
        for number in ["000", "001"] {
            let minter = format!("ALTER ROLE {minters}_minter_{number} NOCREATEROLE");
            run(&mut shop.admin, &minter).await;
        }
        assert_eq!(mint(&shop, shop.scope()).await, "insufficient_privilege");
        shop.password = "wrong".into();
        shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        let barred = shop.try_mint(&shop::draw_lease(), &shop.scope()).await;
        assert!(
            matches!(barred, Err(MintError::Unavailable { .. })),
            "its operator mends that: {barred:?}"
        );
        shop.close().await;
    }
}

#[tokio::test]
async fn explains_without_asking_anyone() {
    let server = postgres_servers().pop().unwrap();
    let mut shop = Shop::open(&server).await;
    let port = std::mem::replace(&mut shop.target.port, 1);
    shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
    shop.target.port = port;
    let scope = json!({"roles": ["customers_limited"], "rows": {"country": "de"}});
    shop.issuer.check_scope(&scope).unwrap();
    let told = shop.issuer.explain(&scope, Seconds(900));
    assert!(
        told.words[0].contains("customers_limited"),
        "{:?}",
        told.words
    );
    assert!(
        told.words[1].contains("only rows where country = de"),
        "{:?}",
        told.words
    );
    assert!(
        told.exact
            .contains("GRANT \"customers_limited\" TO \"jit_…\""),
        "{}",
        told.exact
    );
    assert!(told.ending[0].contains("15m"), "{:?}", told.ending);
    shop.close().await;
}
