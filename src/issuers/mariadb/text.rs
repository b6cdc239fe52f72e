//! The calls of a credential's life.

use super::scope::Scope;
use super::sql::{Ident, Sql};
use crate::domain::{ServerId, Time};

/// Whose accounts, and at which server they must be: none for accounts the ledger knows nothing of.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The database of the procedures.
    pub database: &'a Ident,
    /// Which Countersign asks.
    pub deployment: &'a str,
    /// The server.
    pub server: Option<&'a ServerId>,
}

/// What a mint says besides its scope.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// The account's name.
    pub handle: &'a str,
    /// What the server checks its password with.
    pub verifier: &'a str,
    /// The request it serves.
    pub request: &'a str,
    /// The agent it is for.
    pub agent: &'a str,
}

/// Most names of prepared transactions that are kept: a lease can prepare any number of them.
const MOST_NAMES: usize = 1000;

/// What is prepared at the server, whoever did it, written as statements take it.
const XA_RECOVER: &str = "XA RECOVER FORMAT = 'SQL'";

/// A time as MariaDB reads it.
pub fn timestamp(time: Time) -> String {
    time.to_string().replace('T', " ").replace('Z', "")
}

fn call(database: &Ident, procedure: &'static str) -> Sql {
    Sql::new("CALL ").ident(database).text(".").text(procedure)
}

impl Place<'_> {
    fn call(&self, procedure: &'static str, handles: &[&str]) -> Sql {
        call(self.database, procedure)
            .text("(")
            .literal(self.deployment)
            .text(", ")
            .literal(self.server.map_or("", ServerId::as_str))
            .text(", ")
            .literal(&handles.join(","))
    }

    /// Mints, until `until` by the server's clock, and says what was prepared before.
    ///
    /// # Errors
    /// Never: the procedure's name is plain.
    pub fn mint(&self, making: Making<'_>, scope: &Scope, until: &str) -> Result<Sql, String> {
        Ok(Sql::new(XA_RECOVER)
            .text("; CALL ")
            .path(self.database, &scope.grants.procedure()?)
            .text("(")
            .literal(making.handle)
            .text(", ")
            .literal(making.verifier)
            .text(", ")
            .number(scope.max_connections)
            .text(", ")
            .number(scope.max_statement_seconds)
            .text(", ")
            .literal(until)
            .text(", ")
            .literal(self.deployment)
            .text(", ")
            .literal(self.server.map_or("", ServerId::as_str))
            .text(", ")
            .literal(making.request)
            .text(", ")
            .literal(making.agent)
            .text(")"))
    }

    /// Records what was prepared before an account was of use to anybody. The names serve advice only, so some are enough.
    pub fn note(&self, handle: &str, xids: &[String]) -> Sql {
        let some = xids.get(..MOST_NAMES).unwrap_or(xids);
        call(self.database, "lease_note(")
            .literal(self.deployment)
            .text(", ")
            .literal(handle)
            .text(", ")
            .literal(&some.join("\n"))
            .text(")")
    }

    /// Kills sessions, and waits for nothing.
    pub fn kill(&self, handles: &[&str]) -> Sql {
        self.call("lease_kill", handles).text(", @mine)")
    }

    /// Ends, and looks at what is left.
    pub fn end(&self, handles: &[&str]) -> Sql {
        self.call("lease_end", handles).text("); ").text(XA_RECOVER)
    }

    /// Looks: mints under way, accounts, sessions, records, prepared transactions.
    pub fn look(&self, handles: &[&str]) -> Sql {
        self.call("lease_look", handles)
            .text("); ")
            .text(XA_RECOVER)
    }

    /// Looks for transactions that nobody's session holds and that were not there at the mint.
    pub fn transactions(&self, handles: &[&str]) -> Sql {
        self.call("lease_transactions", handles).text(")")
    }
}

/// Accounts, sessions and records that could be ours.
pub fn list(database: &Ident) -> Sql {
    call(database, "lease_list()")
}

/// Which server it is.
pub fn server(database: &Ident) -> Sql {
    call(database, "lease_server()")
}

/// What the DBA has prepared.
pub fn prepared(database: &Ident) -> Sql {
    call(database, "lease_prepared()")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_prepares_thousands_of_transactions_does_not_make_messages_too_long() {
        let database = Ident::new("countersign").unwrap();
        let place = Place {
            database: &database,
            deployment: "0123456789abcdef",
            server: None,
        };
        let xids: Vec<_> = (0..50_000)
            .map(|number| format!("X'{number:0256x}'"))
            .collect();
        for (count, noted) in [(2, 2), (50_000, MOST_NAMES)] {
            let note = place.note("jit_", &xids[..count]);
            assert_eq!(note.as_str().matches("X''").count(), noted);
        }
    }
}
