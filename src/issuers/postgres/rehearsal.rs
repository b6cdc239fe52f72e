//! Rehearsing: looks at how the DBA prepared the target, then makes, uses and ends a probe role for each scope.
//!
//! The server itself says what is wrong, in sentences that end with the statement that mends it on that version; the
//! queries are in `rehearsal/`. Nothing is probed while something is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::links::Trouble;
use super::procedures::{self, Callers, Function, Names, Owner};
use super::scope::Scope;
use super::sql::{Ident, Sql};
use super::{PostgresIssuer, end_error, judgement};
use crate::config::DatabaseTls;
use crate::domain::{LeaseId, RequestId, lease};
use crate::issuers::{EndError, Ending, Issuer as _, MintOrder, Rehearsal};

const PROBE: Duration = Duration::from_secs(60);

/// Adds the rows of `problem` and `words`.
fn note(rows: &[PgRow], found: &mut Rehearsal) {
    for row in rows {
        let words = row.try_get::<String, _>("words").unwrap_or_default();
        // What cannot be read is no good news.
        if row.try_get::<bool, _>("problem").unwrap_or(true) {
            found.problems.push(words);
        } else {
            found.warnings.push(words);
        }
    }
}

/// The names the queries begin with.
fn our(names: &Names, broker_connections: u32, lease_connections: i64) -> Sql {
    Sql::new("WITH our AS (SELECT ")
        .literal(names.schema.as_str())
        .text("::text AS prefix, ")
        .number(i64::from(names.minters))
        .text("::integer AS minters, ")
        .number(i64::from(broker_connections))
        .text("::integer AS broker_connections, ")
        .number(lease_connections)
        .text("::integer AS lease_connections)")
}

/// The functions as rows: name, hash of the body, language, owner, who may call it.
fn wanted(names: &Names, functions: &[Function]) -> Result<Sql, String> {
    let mut sql = Sql::new(", wanted (name, body, language, owner, callers) AS (VALUES ");
    let mut first = true;
    for function in functions {
        let owners = match function.owner {
            Owner::Keeper => vec![(function.name.to_owned(), names.keeper.clone())],
            Owner::Minters => (0..names.minters)
                .map(|number| {
                    let name = format!("{}_{number:03}", function.name);
                    names.minter(number).map(|minter| (name, minter))
                })
                .collect::<Result<_, _>>()?,
        };
        for (name, owner) in owners {
            let callers: BTreeSet<_> = match function.callers {
                Callers::Broker => vec![names.broker.as_str()],
                Callers::Inside => vec![],
            }
            .into_iter()
            .chain((function.owner == Owner::Minters).then_some(names.keeper.as_str()))
            .collect();
            sql = sql.text(if first { "(" } else { "), (" });
            first = false;
            sql = sql
                .literal(&name)
                .text("::text, ")
                .literal(&function.digest())
                .text(", 'plpgsql', ")
                .literal(owner.as_str())
                .text(", ")
                .texts(callers);
        }
    }
    Ok(sql.text("))"))
}

impl PostgresIssuer {
    async fn note(&self, database: &str, sql: &Sql, found: &mut Rehearsal) -> Result<(), EndError> {
        let rows = self.links.ask_once(database, sql).await;
        let rows = rows.map_err(|trouble| end_error("look_failed", &trouble))?;
        note(&rows, found);
        Ok(())
    }

    pub(super) async fn rehearse_scopes(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        let mut found = Rehearsal::default();
        let scopes = self.read_scopes(scopes, &mut found);
        self.look_at_server(&scopes, &mut found).await?;
        if found.target.is_empty() {
            return Ok(found);
        }
        let mut databases = BTreeSet::from([self.target.database.as_str()]);
        databases.extend(scopes.iter().map(|scope| scope.database.as_str()));
        for database in databases {
            self.look_at_functions(database, &mut found).await?;
        }
        for scope in &scopes {
            if found.problems.is_empty() {
                self.look_at_scope(scope, &mut found).await?;
            }
        }
        for scope in &scopes {
            if found.problems.is_empty() {
                self.probe(scope, &mut found).await;
            }
        }
        found.problems.dedup();
        found.warnings.dedup();
        Ok(found)
    }

    /// The scopes that can be looked at.
    fn read_scopes(&self, scopes: &[Value], found: &mut Rehearsal) -> Vec<Scope> {
        let mut read = Vec::new();
        for value in scopes {
            match self.around.read(&self.around.filled(value)) {
                Err(why) => found.problems.push(format!("scope {value}: {why}")),
                Ok(_) if self.around.names_open(value) => found.warnings.push(format!(
                    "scope {value}: a role or the database is a parameter, so no probe was made for it"
                )),
                Ok(scope) => read.push(scope),
            }
        }
        read
    }

    async fn look_at_server(
        &self,
        scopes: &[Scope],
        found: &mut Rehearsal,
    ) -> Result<(), EndError> {
        let database = &self.target.database;
        let version = Sql::new(
            "SELECT pg_catalog.current_setting('server_version') AS version, \
            EXISTS (SELECT FROM pg_catalog.pg_stat_ssl WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND ssl) AS tls",
        );
        let rows = match self.links.ask_once(database, &version).await {
            Ok(rows) => rows,
            Err(trouble) => {
                let problem = self.barred(&trouble);
                found
                    .problems
                    .push(problem.ok_or_else(|| end_error("look_failed", &trouble))?);
                return Ok(());
            }
        };
        for row in &rows {
            let version = row.try_get::<String, _>("version").unwrap_or_default();
            found.target = format!("PostgreSQL {version}");
            let tls = row.try_get::<bool, _>("tls").unwrap_or_default();
            if matches!(self.target.tls, DatabaseTls::Disable) {
                found.warnings.push("connections to this target are in clear; that is accepted on this machine only".into());
            } else if !tls {
                found.warnings.push("the server does not see TLS on our connection: something in between ends it; connect directly".into());
            }
        }
        let most = scopes.iter().map(|scope| scope.connection_limit).max();
        let our = our(&self.names, self.target.max_connections, most.unwrap_or(1));
        for text in [
            include_str!("rehearsal/server.sql"),
            include_str!("rehearsal/roles.sql"),
        ] {
            let sql = our.clone().text("\n").text(text);
            self.note(database, &sql, found).await?;
        }
        Ok(())
    }

    /// Why the server does not let the broker in, with what mends it.
    fn barred(&self, trouble: &Trouble) -> Option<String> {
        let Trouble::Said { state, detail } = trouble else {
            return None;
        };
        let (broker, database) = (&self.names.broker, &self.target.database);
        let mend = match state.as_str() {
            "28P01" => format!(
                "run what `countersign target init-sql` prints if there is no such role yet, then set its password (in psql: \\password {broker}) and put the same into password_file"
            ),
            "28000" => format!(
                "ALTER ROLE {broker} LOGIN if it may not log in; or a line in pg_hba.conf that lets {broker} reach {database} with scram-sha-256"
            ),
            "3D000" => "make that database, or name the right one in countersign.toml; then run what `countersign target init-sql` prints".into(),
            "42501" if detail.starts_with("permission denied for database") => {
                format!("GRANT CONNECT ON DATABASE {} TO {broker}", Ident::new(database).ok()?)
            }
            _ => return None,
        };
        Some(format!(
            "the broker is not let in: {}; {mend}",
            trouble.detail()
        ))
    }

    /// Whether `database` is prepared with the functions of this version.
    async fn look_at_functions(
        &self,
        database: &str,
        found: &mut Rehearsal,
    ) -> Result<(), EndError> {
        let wrong = |detail| EndError {
            code: "bad_target".into(),
            detail,
        };
        let functions = procedures::all(&self.names);
        let sql = our(&self.names, self.target.max_connections, 1)
            .then(&wanted(&self.names, &functions).map_err(wrong)?)
            .text("\n")
            .text(include_str!("rehearsal/functions.sql"));
        match self.note(database, &sql, found).await {
            Err(why) if database != self.target.database => {
                found.problems.push(format!(
                    "database {database:?} cannot be looked at: {why}; run init-sql for it"
                ));
                Ok(())
            }
            other => other,
        }
    }

    async fn look_at_scope(&self, scope: &Scope, found: &mut Rehearsal) -> Result<(), EndError> {
        let sql = Sql::new("SELECT true AS problem, words FROM (")
            .then(&judgement::problems(&self.names.schema, scope))
            .text(") p");
        self.note(scope.database.as_str(), &sql, found).await
    }

    /// Makes a role, logs in with it, ends it with the session open, and sees that it is gone.
    async fn probe(&self, scope: &Scope, found: &mut Rehearsal) {
        if let Err(problem) = self.try_probe(scope).await {
            found.problems.push(problem);
        }
    }

    async fn try_probe(&self, scope: &Scope) -> Result<(), String> {
        let now = self.clock.now();
        let id = LeaseId::draw(now, self.entropy.draw());
        let handle = lease::handle_of(&id);
        let server = self.identify().await;
        let server = server.map_err(|why| format!("the target does not say what it is: {why}"))?;
        let order = MintOrder {
            lease: id,
            request: RequestId::draw(now, self.entropy.draw()),
            agent: "rehearsal".into(),
            sponsor: "rehearsal".into(),
            scope: scope.to_value(),
            server: server.clone(),
            ordered: now,
            ttl: PROBE,
            mint_within: PROBE,
        };
        let mut outcome = Ok(());
        let mut visit = None;
        match self.mint_role(&order).await {
            Ok(minted) => {
                let select = Sql::new("SELECT 1");
                match self
                    .door
                    .visit(&minted.database, &minted.user, &minted.password, &select)
                    .await
                {
                    Ok(session) => visit = Some(session),
                    Err(trouble) => outcome = Err(login_problem(&trouble, scope)),
                }
            }
            Err(why) => outcome = Err(format!("a probe role could not be made: {why}")),
        }
        let ending = Ending {
            scope: &order.scope,
            server: Some(&server),
            ..Ending::unexplained(&handle)
        };
        if let Err(why) = self.end_and_prove(&ending).await {
            outcome = outcome.and(Err(format!("the probe role could not be ended: {why}")));
        }
        if let Some(mut session) = visit
            && session.is_alive().await
        {
            outcome = outcome.and(Err(format!(
                "the probe's session outlived its end: GRANT pg_signal_backend TO {}",
                self.names.keeper
            )));
        }
        outcome
    }
}

fn login_problem(trouble: &Trouble, scope: &Scope) -> String {
    let roles: Vec<_> = scope.named().map(Ident::to_string).collect();
    let state = match trouble {
        Trouble::Said { state, .. } => state.as_str(),
        _ => "",
    };
    let mend = match state {
        "42501" => format!(
            "; GRANT CONNECT ON DATABASE {} TO {}",
            scope.database,
            roles.join(", ")
        ),
        _ if state.starts_with("28") => format!(
            "; let pg_hba.conf accept scram-sha-256 for database {} and every role whose name begins with jit_",
            scope.database
        ),
        _ => String::new(),
    };
    format!(
        "the probe role could not log in: {}{mend}",
        trouble.detail()
    )
}
