//! Ending: the fast way for the common case, the slow way past partial failures, and the proof.
//!
//! Access is cut before anything is cleaned up, and a step that fails never keeps the next one from being tried. If we
//! crash anywhere here, the next attempt starts over; every step may be repeated.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use super::links::Trouble;
use super::scope::Scope;
use super::sql::{Ident, Sql};
use super::{PostgresIssuer, end_error, text};
use crate::issuers::EndError;

/// How long one attempt keeps killing.
const KILL: Duration = Duration::from_secs(8);

fn error(code: &str, detail: impl Into<String>) -> EndError {
    EndError {
        code: code.into(),
        detail: detail.into(),
    }
}

fn texts(rows: &[PgRow], column: &str) -> Vec<String> {
    let text = |row: &PgRow| row.try_get::<Option<String>, _>(column).ok().flatten();
    rows.iter().filter_map(text).collect()
}

/// The number in the last row that has `column`.
fn number(rows: &[PgRow], column: &str) -> Option<i64> {
    let number = |row: &PgRow| row.try_get::<Option<i64>, _>(column).ok().flatten();
    rows.iter().rev().find_map(number)
}

/// The first problem met; later ones follow from it more often than not.
#[derive(Default)]
struct Problems(Option<EndError>);

impl Problems {
    fn note(&mut self, problem: EndError) {
        self.0.get_or_insert(problem);
    }

    fn check(&mut self, code: &str, step: Result<Vec<PgRow>, Trouble>) -> Vec<PgRow> {
        step.unwrap_or_else(|trouble| {
            self.note(end_error(code, &trouble));
            Vec::new()
        })
    }

    fn result(self) -> Result<(), EndError> {
        self.0.map_or(Ok(()), Err)
    }
}

impl PostgresIssuer {
    async fn main(&self, sql: &Sql) -> Result<Vec<PgRow>, Trouble> {
        self.links.ask_once(&self.target.database, sql).await
    }

    /// Ends the common case in one message; false when it takes more than that.
    pub(super) async fn end_at_once(&self, role: &Ident, scope: &Scope) -> Result<bool, EndError> {
        let borrowed = match self.links.borrow(scope.database.as_str()).await {
            Ok(borrowed) => borrowed,
            // Its own database is closed or gone: the slow way starts from the target's.
            Err(Trouble::Said { .. }) => return Ok(false),
            Err(trouble) => return Err(end_error("target_unavailable", &trouble)),
        };
        let sql = text::end_at_once(role, scope, borrowed.server().has_grant_options());
        let mut borrowed = Some(borrowed);
        let answer = self.links.ask(&mut borrowed, &sql).await;
        self.links.give_back(borrowed);
        match answer {
            Ok(_) => Ok(true),
            Err(Trouble::Said { .. }) => Ok(false),
            Err(trouble) => Err(end_error("target_unavailable", &trouble)),
        }
    }

    /// The role's oid, or none when it is certainly not there and nobody is making it.
    async fn find(&self, role: &Ident) -> Result<Option<i64>, EndError> {
        let failed = |trouble: Trouble| end_error("look_failed", &trouble);
        let mints = self
            .main(&text::mint_under_way(role.as_str()))
            .await
            .map_err(failed)?;
        let rows = self
            .main(&text::look(role.as_str()))
            .await
            .map_err(failed)?;
        if rows.is_empty() {
            return Err(error(
                "look_failed",
                "the target did not answer the question",
            ));
        }
        let oid = number(&rows, "role");
        if oid.is_none() && number(&mints, "under_way") != Some(0) {
            return Err(error(
                "mint_under_way",
                "a mint of this role is still running; tried again",
            ));
        }
        Ok(oid)
    }

    /// Ends whatever there is, each step whether or not the one before it worked.
    pub(super) async fn end_step_by_step(
        &self,
        role: &Ident,
        scope: Option<&Scope>,
    ) -> Result<(), EndError> {
        let mut problems = Problems::default();
        if let Some(oid) = self.find(role).await? {
            self.cut(role, oid, &mut problems).await;
            let dead = self.kill(oid, &mut problems).await;
            self.roll_back_prepared(role, oid, &mut problems).await;
            self.clean_up(role, oid, scope, &mut problems).await;
            self.forget_rows(role, scope, &mut problems).await;
            // A session outlives its role, and then nobody can name it: the role stays until its sessions are gone.
            if dead && self.nothing_prepared(oid, &mut problems).await {
                match self.main(&text::drop_role(role)).await {
                    Err(trouble) if trouble.state() == "42704" => {}
                    Err(trouble) => problems.note(end_error("cleanup_blocked", &trouble)),
                    Ok(_) => {}
                }
            }
            if self.find(role).await?.is_none() {
                // What failed on the way there no longer stands in the way, unless it left something behind.
                problems.0.take_if(|problem| problem.code != "rows_left");
            }
        } else {
            self.forget_rows(role, scope, &mut problems).await;
            problems.check("session_alive", self.main(&text::kill_ghosts()).await);
        }
        problems.result()
    }

    /// No login, no groups, no session.
    async fn cut(&self, role: &Ident, oid: i64, problems: &mut Problems) {
        problems.check("fence_failed", self.main(&text::fence(role)).await);
        let grant_options = match self.links.borrow(&self.target.database).await {
            Ok(borrowed) => {
                let server = borrowed.server();
                self.links.give_back(Some(borrowed));
                server.has_grant_options()
            }
            Err(trouble) => return problems.note(end_error("target_unavailable", &trouble)),
        };
        let groups = problems.check("fence_failed", self.main(&text::memberships(oid)).await);
        for group in texts(&groups, "name") {
            // One by one, and as far as it goes: what somebody else granted is gone with the sessions and the role.
            if let Ok(group) = Ident::new(&group) {
                let _ = self.main(&text::revoke(&[group], role)).await;
            }
        }
        let take_over = text::take_over(role, grant_options);
        problems.check("takeover_refused", self.main(&take_over).await);
    }

    /// Kills until a look finds nothing; false when something may be left.
    async fn kill(&self, oid: i64, problems: &mut Problems) -> bool {
        let deadline = Instant::now() + KILL;
        loop {
            let problem = match self.main(&text::kill(oid)).await {
                Ok(rows) => match number(&rows, "seen") {
                    Some(0) => return true,
                    seen => error(
                        "session_alive",
                        format!("{} sessions left", seen.unwrap_or(0)),
                    ),
                },
                Err(trouble) if trouble.state() == "42501" => {
                    end_error("terminate_refused", &trouble)
                }
                Err(trouble) => end_error("session_alive", &trouble),
            };
            if Instant::now() > deadline || problem.code != "session_alive" {
                problems.note(problem);
                return false;
            }
        }
    }

    async fn nothing_prepared(&self, oid: i64, problems: &mut Problems) -> bool {
        match self.main(&text::prepared(oid)).await {
            Ok(rows) if rows.is_empty() => true,
            Ok(_) => {
                problems.note(error("cleanup_blocked", "a prepared transaction is left"));
                false
            }
            Err(trouble) => {
                problems.note(end_error("look_failed", &trouble));
                false
            }
        }
    }

    /// Only the owner may roll back, in the database it was prepared in; the broker becomes the role for one message
    /// that runs no code of the agent's, on a connection that is closed if it cannot be undone.
    async fn roll_back_prepared(&self, role: &Ident, oid: i64, problems: &mut Problems) {
        let rows = problems.check("look_failed", self.main(&text::prepared(oid)).await);
        for (gid, database) in texts(&rows, "gid").iter().zip(texts(&rows, "database")) {
            let mut borrowed = match self.links.borrow(&database).await {
                Ok(borrowed) => Some(borrowed),
                Err(trouble) => {
                    problems.note(end_error("cleanup_blocked", &trouble));
                    continue;
                }
            };
            for sql in [
                Sql::new("SET ROLE ").ident(role),
                Sql::new("ROLLBACK PREPARED ").literal(gid),
                Sql::new("RESET ROLE"),
            ] {
                if let Err(trouble) = self.links.ask(&mut borrowed, &sql).await {
                    problems.note(end_error("cleanup_blocked", &trouble));
                    borrowed = None;
                    break;
                }
            }
            self.links.give_back(borrowed);
        }
    }

    /// In every database: what the role owns goes to the quarantine role, what it was granted goes away.
    async fn clean_up(
        &self,
        role: &Ident,
        oid: i64,
        scope: Option<&Scope>,
        problems: &mut Problems,
    ) {
        let rows = problems.check("look_failed", self.main(&text::holdings(oid)).await);
        let groups = scope.map_or(&[][..], |scope| &scope.roles);
        for row in &rows {
            let database = row.try_get::<Option<String>, _>("database").ok().flatten();
            let database = database.unwrap_or_else(|| self.target.database.clone());
            let disown = text::disown(role, &self.quarantine);
            let mut done = self.links.ask_once(&database, &disown).await;
            if done
                .as_ref()
                .is_err_and(|trouble| trouble.state() == "42501")
            {
                // Code cannot be handed to a role that may not create in its schema; data can. The code goes.
                done = self
                    .links
                    .ask_once(&database, &text::drop_routines(role, oid, groups))
                    .await;
                if done.is_ok() {
                    done = self.links.ask_once(&database, &disown).await;
                }
            }
            if let Err(trouble) = done {
                let mut problem = end_error("cleanup_blocked", &trouble);
                problem.detail = format!(
                    "in database {database}: {}; if it may not create there: GRANT CREATE on it TO {}",
                    problem.detail, self.quarantine
                );
                // One database that does not answer is no reason to leave the others.
                problem.code = "cleanup_blocked".into();
                problems.note(problem);
            }
        }
    }

    /// The rows the mint wrote. Where the table never was, there are none.
    async fn forget_rows(&self, role: &Ident, scope: Option<&Scope>, problems: &mut Problems) {
        if scope.is_some_and(|scope| scope.rows.is_empty()) {
            return;
        }
        let database = scope.map_or(self.target.database.as_str(), |scope| {
            scope.database.as_str()
        });
        if let Err(trouble) = self
            .links
            .ask_once(database, &text::forget_rows(role))
            .await
        {
            let nothing_there = ["42P01", "3F000", "3D000"].contains(&trouble.state());
            // Without a scope we only guess that there might be rows.
            let guessed = scope.is_none() && trouble.state() == "42501";
            if !nothing_there && !guessed {
                problems.note(end_error("rows_left", &trouble));
            }
        }
    }

    /// A fresh look. The broker never knew the password for longer than the mint, so it cannot try a login: that the
    /// role is absent is the proof that login is refused.
    pub(super) async fn look_for(&self, handle: &str) -> Result<Vec<String>, EndError> {
        let failed = |trouble: Trouble| end_error("look_failed", &trouble);
        let mut sql = text::mint_under_way(handle)
            .text("; ")
            .then(&text::look(handle));
        let mut rows = self.main(&sql).await.map_err(failed)?;
        if number(&rows, "ghosts").is_some_and(|ghosts| ghosts > 0) {
            self.main(&text::kill_ghosts()).await.map_err(failed)?;
            sql = text::mint_under_way(handle)
                .text("; ")
                .then(&text::look(handle));
            rows = self.main(&sql).await.map_err(failed)?;
        }
        let (mints, sessions) = (number(&rows, "under_way"), number(&rows, "sessions"));
        let (ghosts, prepared) = (number(&rows, "ghosts"), number(&rows, "prepared"));
        if number(&rows, "role").is_some() {
            return Err(error(
                "role_exists",
                "the role is still there; end it again",
            ));
        }
        if mints != Some(0) {
            return Err(error(
                "mint_under_way",
                "a mint of this role is still running",
            ));
        }
        if sessions != Some(0) || ghosts != Some(0) {
            return Err(error(
                "session_alive",
                "a session of a role that is gone is still open; GRANT pg_signal_backend to the broker's role",
            ));
        }
        if prepared != Some(0) {
            return Err(error(
                "prepared_transaction_left",
                "a prepared transaction has no owner any more; as superuser: SELECT gid, database FROM pg_prepared_xacts WHERE owner IS NULL, then ROLLBACK PREPARED in that database",
            ));
        }
        Ok(["no_role", "no_session", "no_prepared_transaction"]
            .map(String::from)
            .into())
    }
}
