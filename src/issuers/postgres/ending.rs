//! Ending: in one message when nothing is in the way, step by step when something is, and the proof.
//!
//! Sessions are killed before anything else is tried and for as long as anything stands in the way, and a lease that cannot
//! be ended keeps no other from its end. If we crash anywhere here, the next attempt starts over; every step may be
//! repeated.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep};

use super::links::Trouble;
use super::sql::{Ident, Sql};
use super::text::Leases;
use super::{PostgresIssuer, end_error, residue, text};
use crate::domain::ServerId;
use crate::issuers::{EndError, Ending, Proof};

/// How long one attempt goes on against somebody who fights it.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often sessions are killed meanwhile.
const AGAIN: Duration = Duration::from_millis(20);

/// How many are ended with one message, whatever other ends there are.
const FEW: usize = 100;
/// How many are never too many for the server's lock table.
const FEWEST: usize = 8;

/// SQLSTATE out_of_memory: there is no room in the server's lock table.
const LOCK_TABLE_FULL: &str = "53200";

fn error(code: &str, detail: impl Into<String>) -> EndError {
    EndError {
        code: code.into(),
        detail: detail.into(),
    }
}

fn words(row: &PgRow, column: &str) -> Option<String> {
    row.try_get::<Option<String>, _>(column).ok().flatten()
}

/// What became of one lease.
struct Outcome {
    code: String,
    words: String,
}

/// What the close of `handle` said, if it said anything.
fn outcome_of(rows: &[PgRow], handle: &str) -> Option<Outcome> {
    let row = rows
        .iter()
        .find(|row| words(row, "closed").as_deref() == Some(handle))?;
    Some(Outcome {
        code: words(row, "outcome")?,
        words: words(row, "words").unwrap_or_default(),
    })
}

/// What stood in the way, in words for the operator.
fn obstacle(outcome: &Outcome, handle: &str) -> EndError {
    let said = &outcome.words;
    match outcome.code.as_str() {
        "under_way" => error(
            "mint_under_way",
            "a mint or another end of this lease is still running; tried again",
        ),
        "not_ours" => error(
            "not_ours",
            format!(
                "role {handle} has no record of this broker: it is left alone; see COMMENT ON ROLE"
            ),
        ),
        "session_alive" => error(
            "session_alive",
            "a session of this lease does not end; tried again",
        ),
        "not_fenced" => error(
            "fence_failed",
            "the login could not be refused yet; tried again",
        ),
        "target_changed" => error(
            "target_changed",
            "the server is another than the one this lease was minted at; its sessions here were ended",
        ),
        "prepared" => error(
            "prepared_transaction_left",
            "a prepared transaction of this lease could not be rolled back; tried again",
        ),
        "prepared_as" => error(
            "prepared_transaction_left",
            format!(
                "prepared transaction {said} may be of this lease: look at it, and as that role or as superuser COMMIT or ROLLBACK PREPARED it there"
            ),
        ),
        "holds_elsewhere" => error(
            "cleanup_blocked",
            "it left something in a database that could not be cleaned; run `countersign target init-sql` for that database",
        ),
        _ => error("cleanup_blocked", said.clone()),
    }
}

/// What a look says, by handle.
fn looked(rows: &[PgRow]) -> HashMap<String, &PgRow> {
    let of = |row| Some((words(row, "looked")?, row));
    rows.iter().filter_map(of).collect()
}

/// What a look says of `handle`: the proof, or why it is none.
fn proof_in(rows: &[PgRow], handle: &str) -> Result<(Proof, Vec<String>), EndError> {
    let rows = looked(rows);
    let row = rows
        .get(handle)
        .ok_or_else(|| error("look_failed", "the target did not answer the question"))?;
    proof_of(row)
}

/// What a look says of the lease of `row`: the proof, or why it is none.
fn proof_of(row: &PgRow) -> Result<(Proof, Vec<String>), EndError> {
    let count = |column: &str| row.try_get::<i64, _>(column).ok();
    let flag = |column: &str| row.try_get::<bool, _>(column).ok();
    let list = |column: &str| row.try_get::<Vec<String>, _>(column);
    if flag("there") != Some(false) {
        return Err(error(
            "role_exists",
            "the role is still there; end it again",
        ));
    }
    if flag("under_way") != Some(false) {
        return Err(error(
            "mint_under_way",
            "a mint or an end of this role is still running; tried again",
        ));
    }
    if count("sessions") != Some(0) {
        return Err(error(
            "session_alive",
            "a session of a role that is gone is still open; end it again",
        ));
    }
    if count("prepared") != Some(0) {
        return Err(error(
            "prepared_transaction_left",
            "a prepared transaction of a role that is gone; as superuser: SELECT gid, database FROM pg_prepared_xacts WHERE owner IS NULL, then ROLLBACK PREPARED in that database",
        ));
    }
    let unread = |_| error("look_failed", "the target did not say what is left");
    let proof = Proof::Gone {
        seen: ["no_role", "no_session", "no_prepared_transaction"]
            .map(String::from)
            .into(),
        left: list("residue").map_err(unread)?,
    };
    Ok((proof, list("elsewhere").map_err(unread)?))
}

/// Whether the database a lease was minted in is no more.
fn is_gone(answer: &Result<Vec<PgRow>, Trouble>) -> bool {
    matches!(answer, Err(Trouble::Said { state, .. }) if state == "3D000")
}

/// Whether there was no room in the server's lock table.
fn is_full(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Said { state, .. } if state == LOCK_TABLE_FULL)
}

/// Whether the target could not be asked.
fn is_away(answer: &Result<Vec<PgRow>, Trouble>) -> bool {
    matches!(answer, Err(Trouble::Unreachable(_) | Trouble::Lost(_)))
}

impl PostgresIssuer {
    fn leases<'a>(&'a self, handles: &'a [&'a str], server: Option<&'a ServerId>) -> Leases<'a> {
        Leases {
            handles,
            deployment: self.deployment.as_str(),
            server,
        }
    }

    /// The database a lease was minted in, as far as anybody knows.
    pub(super) fn home(&self, ending: &Ending<'_>) -> String {
        let scope = self.around.read(ending.scope).ok();
        scope.map_or_else(
            || self.target.database.clone(),
            |scope| scope.database.as_str().to_owned(),
        )
    }

    /// Ends and proves leases that were minted in `database` at `server`, with one message if the server has room for it;
    /// `None` for those that resist.
    pub(super) async fn end_together(
        &self,
        database: &str,
        server: Option<&ServerId>,
        handles: &[&str],
    ) -> Vec<Option<Result<Proof, EndError>>> {
        let mut results = Vec::with_capacity(handles.len());
        let mut parts = vec![handles];
        while let Some(part) = parts.pop() {
            match self.ask_to_end(database, server, part).await {
                Ok(rows) => {
                    let looked = looked(&rows);
                    for handle in part {
                        let proof = looked.get(*handle).and_then(|row| proof_of(row).ok());
                        results.push(match proof {
                            Some((proof, places)) => {
                                Some(self.gather(proof, &places, handle).await)
                            }
                            None => None,
                        });
                    }
                }
                Err(trouble) if is_full(&trouble) && part.len() > FEWEST => {
                    self.relieve().await;
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(Trouble::Said { .. }) => results.extend(part.iter().map(|_| None)),
                Err(trouble) => {
                    let refused = |_| Some(Err(end_error("end_failed", &trouble)));
                    results.extend(part.iter().map(refused));
                }
            }
        }
        results
    }

    /// Sends what ends them and looks for them.
    async fn ask_to_end(
        &self,
        database: &str,
        server: Option<&ServerId>,
        handles: &[&str],
    ) -> Result<Vec<PgRow>, Trouble> {
        let leases = self.leases(handles, server);
        let message = text::end(&self.names, &leases);
        // The server's lock table has to have room for two locks of each lease, beside everybody else's.
        let _turn = match handles.len() {
            ..=FEW => None,
            _ => self.wide.acquire().await.ok(),
        };
        let mut database = database;
        let mut answer = self.ends.ask_once(database, &message).await;
        if is_gone(&answer) {
            database = &self.target.database;
            answer = self.ends.ask_once(database, &message).await;
        }
        if is_away(&answer) {
            // Their own sessions may be what keeps us out.
            let _ = self.pinned.kill(&text::kill(&self.names, &leases)).await;
            answer = self.ends.ask_once(database, &message).await;
        }
        answer
    }

    /// Looks, and tells what is left in other databases too.
    pub(super) async fn look_for(
        &self,
        database: &str,
        server: Option<&ServerId>,
        handle: &str,
    ) -> Result<Proof, EndError> {
        let handles = [handle];
        let sql = text::look(&self.names, &self.leases(&handles, server));
        let mut answer = self.ends.ask_once(database, &sql).await;
        if is_gone(&answer) {
            answer = self.ends.ask_once(&self.target.database, &sql).await;
        }
        let rows = answer.map_err(|trouble| end_error("look_failed", &trouble))?;
        let (proof, elsewhere) = proof_in(&rows, handle)?;
        self.gather(proof, &elsewhere, handle).await
    }

    /// Adds what is left in other databases.
    async fn gather(
        &self,
        mut proof: Proof,
        elsewhere: &[String],
        handle: &str,
    ) -> Result<Proof, EndError> {
        for database in elsewhere {
            let sql = text::look(&self.names, &self.leases(&[handle], None));
            let rows = self.ends.ask_once(database, &sql).await;
            let rows = rows.map_err(|trouble| end_error("look_failed", &trouble))?;
            if let (Proof::Gone { left, .. }, (Proof::Gone { left: more, .. }, _)) =
                (&mut proof, proof_in(&rows, handle)?)
            {
                left.extend(
                    more.into_iter()
                        .map(|line| format!("{line} in database {database}")),
                );
            }
        }
        Ok(proof)
    }

    /// Ends one that resists: kills, fences, kills again until nothing is seen, then takes away what it left.
    pub(super) async fn end_step_by_step(
        &self,
        database: &str,
        server: Option<&ServerId>,
        handle: &str,
    ) -> Result<Proof, EndError> {
        let handles = [handle];
        let leases = self.leases(&handles, server);
        let deadline = Instant::now() + PATIENCE;
        let mut database = database;
        loop {
            let mut rows = self.close_while_killing(database, &leases).await;
            if is_gone(&rows) {
                database = &self.target.database;
                rows = self.close_while_killing(database, &leases).await;
            }
            let problem = match rows {
                Err(trouble @ Trouble::Refused { .. }) => {
                    return Err(end_error("end_failed", &trouble));
                }
                Err(trouble) => {
                    if is_full(&trouble) {
                        self.relieve().await;
                    }
                    end_error("end_failed", &trouble)
                }
                Ok(rows) => match outcome_of(&rows, handle) {
                    Some(outcome) if outcome.code == "gone" => {
                        return self.look_for(database, server, handle).await;
                    }
                    Some(outcome) => match self.clear(&outcome, database, &leases, handle).await {
                        Ok(()) => obstacle(&outcome, handle),
                        Err(problem) => return Err(problem),
                    },
                    None => error("end_failed", "the target did not say what became of it"),
                },
            };
            if Instant::now() > deadline {
                return Err(problem);
            }
            sleep(AGAIN).await;
        }
    }

    /// Another lease may have filled the lock table, so that this one cannot be fenced: its sessions are ended, not its lease.
    async fn relieve(&self) {
        let sql = text::relieve(&self.names, self.deployment.as_str());
        match self.pinned.kill(&sql).await {
            Ok(()) => {
                tracing::warn!(target_name = %self.name, "the lock table is full; sessions of leases that hold over 1,000 locks were ended");
            }
            Err(trouble) => {
                tracing::warn!(target_name = %self.name, trouble = trouble.detail(), "the lock table is full and could not be relieved");
            }
        }
    }

    /// Fences and closes, while the pinned connection kills.
    async fn close_while_killing(
        &self,
        database: &str,
        leases: &Leases<'_>,
    ) -> Result<Vec<PgRow>, Trouble> {
        let kill = text::kill(&self.names, leases);
        // Whatever stands in the way of this one stands in the way of others too; it is no reason to try nothing else.
        let _ = self.pinned.kill(&kill).await;
        let message = text::end(&self.names, leases);
        let close = self.ends.ask_once(database, &message);
        tokio::pin!(close);
        loop {
            tokio::select! {
                answer = &mut close => return answer,
                () = sleep(AGAIN) => {
                    let _ = self.pinned.kill(&kill).await;
                }
            }
        }
    }

    /// Takes away what stands in the way. `Err` when that is not for us to do.
    async fn clear(
        &self,
        outcome: &Outcome,
        database: &str,
        leases: &Leases<'_>,
        handle: &str,
    ) -> Result<(), EndError> {
        match outcome.code.as_str() {
            "not_fenced" | "session_alive" | "under_way" | "held" => Ok(()),
            "cleanup_blocked" if self.thin_out(database, leases, handle).await? => Ok(()),
            "prepared" => self.roll_back(database, leases, handle).await,
            "holds_elsewhere" => self.clean_elsewhere(database, leases, handle).await,
            _ => Err(obstacle(outcome, handle)),
        }
    }

    /// Drops what it made too much of to be dropped at once, in one database; whether there was any.
    async fn thin_out(
        &self,
        database: &str,
        leases: &Leases<'_>,
        handle: &str,
    ) -> Result<bool, EndError> {
        let thin = residue::thin(&self.names.schema, handle, leases.deployment);
        let mut any = false;
        loop {
            let rows = self.ends.ask_once(database, &thin).await;
            let rows = rows.map_err(|trouble| end_error("cleanup_blocked", &trouble))?;
            let dropped = rows.first().and_then(|row| row.try_get("dropped").ok());
            if dropped.unwrap_or(0_i32) == 0 {
                return Ok(any);
            }
            any = true;
        }
    }

    /// Rolls back the lease's prepared transactions, as the lease: nobody else may.
    async fn roll_back(
        &self,
        home: &str,
        leases: &Leases<'_>,
        handle: &str,
    ) -> Result<(), EndError> {
        let failed = |trouble: Trouble| end_error("prepared_transaction_left", &trouble);
        let sql = text::prepared(&self.names, handle, leases.deployment);
        let rows = self.ends.ask_once(home, &sql).await.map_err(failed)?;
        let role = Ident::new(handle).map_err(|detail| error("bad_handle", detail))?;
        let lend = |lent| text::lend(&self.names, handle, leases, lent);
        self.ends
            .ask_once(home, &lend(true))
            .await
            .map_err(failed)?;
        let mut rolled = Ok(());
        for row in &rows {
            let (Some(gid), Some(database)) = (words(row, "gid"), words(row, "database")) else {
                continue;
            };
            let roll_back = Sql::new("ROLLBACK PREPARED ").literal(&gid);
            // One that was finished meanwhile keeps no other.
            rolled = rolled.and(self.door.act(&database, &role, &roll_back).await);
        }
        self.ends
            .ask_once(home, &lend(false))
            .await
            .map_err(failed)?;
        rolled.map_err(failed)
    }

    /// Cleans up in the databases the lease left its own for.
    async fn clean_elsewhere(
        &self,
        home: &str,
        leases: &Leases<'_>,
        handle: &str,
    ) -> Result<(), EndError> {
        let sql = text::elsewhere(&self.names, leases);
        let rows = self.ends.ask_once(home, &sql).await;
        let rows = rows.map_err(|trouble| end_error("look_failed", &trouble))?;
        let databases: Vec<String> = rows
            .first()
            .and_then(|row| row.try_get("elsewhere").ok())
            .unwrap_or_default();
        let clean = residue::clean(&self.names.schema, handle, leases.deployment);
        for database in databases {
            if let Err(why) = self.thin_out(&database, leases, handle).await {
                let detail = format!("in database {database}: {}", why.detail);
                return Err(error("cleanup_blocked", detail));
            }
            let blocked = match self.ends.ask_once(&database, &clean).await {
                Ok(rows) => rows
                    .iter()
                    .find(|row| row.try_get("blocked").unwrap_or(true))
                    .and_then(|row| words(row, "words")),
                Err(trouble) => Some(format!(
                    "{}; run `countersign target init-sql` for that database",
                    trouble.detail()
                )),
            };
            if let Some(why) = blocked {
                return Err(error(
                    "cleanup_blocked",
                    format!("in database {database}: {why}"),
                ));
            }
        }
        Ok(())
    }
}
