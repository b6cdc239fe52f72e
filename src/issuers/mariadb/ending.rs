//! Ending, and what a look at the server means.
//!
//! Sessions are killed first, by a message that waits for nothing. Then the accounts are locked, killed again, dropped,
//! killed again, and looked for.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::mysql::MySqlRow;

use super::links::{For, Trouble};
use super::{MariadbIssuer, PERFORMANCE_SCHEMA_OFF, end_error, end_problem, number, words};
use crate::domain::{Proof, ServerId, lease};
use crate::issuers::{EndError, Ending, TARGET_CHANGED};

/// Most accounts in one message.
pub const BATCH: usize = 100;

/// Most statements that are written out for what a lease left prepared.
const MOST_STATEMENTS: usize = 20;

type Results = Vec<Result<Proof, EndError>>;

/// What an answer shows of accounts.
struct Seen {
    accounts: BTreeSet<String>,
    sessions: BTreeSet<String>,
    mints: BTreeSet<String>,
    /// Whose record each has.
    owners: BTreeMap<String, String>,
    /// What is prepared at the server, by whomever.
    prepared: Vec<String>,
    /// Whether there are sessions of which the server does not say who logged in.
    unseen: bool,
    /// The first thing the server had against a step of the end.
    said: Option<String>,
}

fn pairs(rows: &[MySqlRow], key: &str, value: &str) -> BTreeMap<String, String> {
    let word = |row: &MySqlRow, column| words(std::slice::from_ref(row), column).pop();
    let pair = |row| Some((word(row, key)?, word(row, value)?));
    rows.iter().filter_map(pair).collect()
}

/// The rows of a look that was made at the right server.
fn looked(rows: &[MySqlRow]) -> Result<(), EndError> {
    let outcomes = words(rows, "outcome");
    let is = |outcome: &str| outcomes.iter().any(|one| one == outcome);
    if is("elsewhere") {
        let here = words(rows, "words").pop().unwrap_or_default();
        return Err(end_problem(
            TARGET_CHANGED,
            format!(
                "the server is {here}; point the target at the one the credential was minted at"
            ),
        ));
    }
    if is("read_only") {
        return Err(read_only());
    }
    if !is("looked") {
        let said = words(rows, "words").pop();
        let said = said.unwrap_or_else(|| "the procedure gave no outcome".into());
        return Err(end_problem("look_failed", said));
    }
    Ok(())
}

pub(super) fn read_only() -> EndError {
    end_problem(
        "read_only_target",
        "the server is read-only or a replica; point the target at the primary",
    )
}

impl Seen {
    fn of(rows: &[MySqlRow]) -> Result<Self, EndError> {
        looked(rows)?;
        let set = |column: &str| words(rows, column).into_iter().collect();
        Ok(Self {
            accounts: set("account"),
            sessions: set("session"),
            mints: set("minting"),
            owners: pairs(rows, "record", "whose"),
            prepared: words(rows, "data"),
            unseen: number(rows, "unseen") != Some(0),
            said: words(rows, "words").pop(),
        })
    }

    /// Whether nothing is left of an account; an orphan must be recorded as ours.
    fn gone(&self, ending: &Ending<'_>, deployment: &str) -> Result<(), EndError> {
        let problem = |code: &str, detail: &str| {
            let detail = match &self.said {
                Some(said) => format!("{detail}; the server said: {said}"),
                None => detail.to_owned(),
            };
            Err(end_problem(code, detail))
        };
        let handle = ending.handle;
        let there = self.accounts.contains(handle) || self.sessions.contains(handle);
        match self.owners.get(handle) {
            Some(owner) if owner != deployment => {
                return problem(
                    "not_ours",
                    "another Countersign made this account; it ends it",
                );
            }
            None if there && ending.server.is_none() => {
                return problem(
                    "not_ours",
                    "this account has no record; drop it if nobody needs it",
                );
            }
            _ => {}
        }
        if self.sessions.contains(handle) {
            return problem(
                "session_alive",
                "a session of this account is still open; end it again",
            );
        }
        if self.accounts.contains(handle) {
            return problem("account_exists", "the account is still there; end it again");
        }
        if self.unseen {
            return problem("sessions_unseen", PERFORMANCE_SCHEMA_OFF);
        }
        if self.mints.contains(handle) {
            return problem(
                "mint_under_way",
                "a mint of this account is still running; tried again",
            );
        }
        Ok(())
    }
}

/// What was prepared since the mint of an account, and is held by nobody's session. Of an account whose record is lost,
/// nobody knows what was prepared before.
fn stray(rows: &[MySqlRow], prepared: &[String], ending: &Ending<'_>) -> Result<(), EndError> {
    let of = |row: &&MySqlRow| words(std::slice::from_ref(*row), "suspect") == [ending.handle];
    let record = rows.iter().find(of).map(std::slice::from_ref);
    let since = match record {
        Some(row) => number(row, "prepared"),
        None if ending.server.is_none() => Some(0),
        None => number(rows, "unheld"),
    };
    if prepared.is_empty() || since == Some(0) {
        return Ok(());
    }
    let before = record.and_then(|row| words(row, "xids").pop());
    let before = before.unwrap_or_default();
    let before: BTreeSet<_> = before.lines().collect();
    let mut new: Vec<_> = prepared
        .iter()
        .filter(|xid| !before.contains(xid.as_str()))
        .collect();
    if new.is_empty() {
        new.extend(prepared);
    }
    let some = new.iter().take(MOST_STATEMENTS);
    let mut statements: Vec<_> = some.map(|xid| format!("XA ROLLBACK {xid}")).collect();
    if let Some(more @ 1..) = new.len().checked_sub(MOST_STATEMENTS) {
        statements.push(format!(
            "and {more} more that XA RECOVER FORMAT = 'SQL' shows"
        ));
    }
    Err(end_problem(
        "prepared_transaction_left",
        format!(
            "a transaction was prepared while this lease lived, and any account may still commit it; unless another application needs it: {}",
            statements.join("; ")
        ),
    ))
}

pub(super) fn check_handle(handle: &str) -> Result<(), EndError> {
    match lease::lease_of(handle) {
        Some(_) => Ok(()),
        None => Err(end_problem(
            "bad_handle",
            format!("{handle:?} is no handle of this broker"),
        )),
    }
}

impl MariadbIssuer {
    /// Ends and proves, up to [`BATCH`] of one server with one message.
    pub(super) async fn end_batch(&self, endings: &[Ending<'_>]) -> Results {
        self.by_server(endings, true).await
    }

    /// Looks, and changes nothing.
    pub(super) async fn look(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        let mut proofs = self.by_server(std::slice::from_ref(ending), false).await;
        proofs
            .pop()
            .unwrap_or_else(|| Err(end_problem("look_failed", "there is no answer")))
    }

    async fn by_server(&self, endings: &[Ending<'_>], ends: bool) -> Results {
        let mut groups: BTreeMap<Option<&str>, Vec<(usize, Ending<'_>)>> = BTreeMap::new();
        let mut results = BTreeMap::new();
        for (index, ending) in endings.iter().enumerate() {
            match check_handle(ending.handle) {
                Ok(()) => groups
                    .entry(ending.server.map(ServerId::as_str))
                    .or_default()
                    .push((index, *ending)),
                Err(why) => drop(results.insert(index, Err(why))),
            }
        }
        for group in groups.values() {
            for some in group.chunks(BATCH) {
                let same: Vec<_> = some.iter().map(|(_, ending)| *ending).collect();
                let proofs = self.at_one_server(&same, ends).await;
                let indexes = some.iter().map(|(index, _)| *index);
                results.extend(indexes.zip(proofs));
            }
        }
        results.into_values().collect()
    }

    async fn at_one_server(&self, endings: &[Ending<'_>], ends: bool) -> Results {
        match self.ask_for(endings, ends).await {
            Ok(proofs) => proofs,
            Err(why) => endings.iter().map(|_| Err(why.clone())).collect(),
        }
    }

    async fn ask_for(&self, endings: &[Ending<'_>], ends: bool) -> Result<Results, EndError> {
        let handles: Vec<_> = endings.iter().map(|ending| ending.handle).collect();
        let place = self.place(endings.first().and_then(|ending| ending.server));
        let failed = |code: &'static str| move |trouble: Trouble| end_error(code, &trouble);
        let rows = if ends {
            // Whatever becomes of it, the end kills too.
            drop(self.links.ask(For::Kills, &place.kill(&handles)).await);
            let ended = self.links.ask(For::Ends, &place.end(&handles)).await;
            ended.map_err(failed("end_failed"))?
        } else {
            let looked = self.links.ask(For::Ends, &place.look(&handles)).await;
            looked.map_err(failed("look_failed"))?
        };
        let seen = Seen::of(&rows)?;
        let deployment = self.deployment.as_str();
        let gone: Vec<_> = endings
            .iter()
            .map(|ending| seen.gone(ending, deployment))
            .collect();
        let mut strays = Vec::new();
        if !seen.prepared.is_empty() && gone.iter().any(Result::is_ok) {
            let asked = place.transactions(&handles);
            let answer = self.links.ask(For::Ends, &asked).await;
            strays = answer.map_err(failed("look_failed"))?;
            looked(&strays)?;
        }
        let proof = |(gone, ending): (Result<(), EndError>, &Ending<'_>)| {
            gone?;
            stray(&strays, &seen.prepared, ending)?;
            Ok(Proof::gone([
                "no_account",
                "no_session",
                "no_prepared_transaction",
            ]))
        };
        Ok(gone.into_iter().zip(endings).map(proof).collect())
    }
}
