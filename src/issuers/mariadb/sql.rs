//! How MariaDB names and quotes. Text is read under [`MODE`], where a backslash is a letter like any other.

use std::fmt;

use crate::issuers::sql::{self, Dialect};

/// The `sql_mode` under which the text is read, in the broker's sessions and in the procedures.
pub const MODE: &str =
    "STRICT_ALL_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES";

/// Longest name of a database, table, column or procedure.
pub const LONGEST_IDENT: usize = 64;

/// A name of a database, table, column, procedure or account: letters, digits, `_`, `$` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ident(String);

impl Ident {
    /// A plain name.
    ///
    /// # Errors
    /// When it is not plain, or longer than MariaDB takes.
    pub fn new(name: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_$-".contains(&b);
        if name.is_empty() || name.len() > LONGEST_IDENT || !name.bytes().all(plain) {
            return Err(format!(
                "{name:?} is no plain name: use 1 to {LONGEST_IDENT} letters, digits, _ $ - (no wildcards)"
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.replace('`', "``"))
    }
}

/// An account: a user name and the host it may come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    user: Ident,
    host: &'static str,
}

impl Account {
    /// The account of `user` that may come from anywhere.
    pub fn anywhere(user: Ident) -> Self {
        Self { user, host: "%" }
    }

    /// The account of `user` that may come from the server's own machine.
    pub fn local(user: Ident) -> Self {
        Self {
            user,
            host: "localhost",
        }
    }

    /// The name without the host.
    pub fn user(&self) -> &str {
        self.user.as_str()
    }

    /// As MariaDB names accounts in its catalog: `user@host`.
    pub fn in_catalog(&self) -> String {
        format!("{}@{}", self.user.as_str(), self.host)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'@'{}'", self.user.as_str(), self.host)
    }
}

/// MariaDB's way to quote.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mariadb;

/// A statement, or several, for MariaDB.
pub type Sql = sql::Sql<Mariadb>;

impl Dialect for Mariadb {
    type Ident = Ident;

    /// For sessions under [`MODE`], in which a backslash is a character like others.
    fn literal(text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }
}

impl Sql {
    /// Something in a database: `database`.`name`.
    #[must_use]
    pub fn path(self, database: &Ident, name: &Ident) -> Self {
        self.ident(database).text(".").ident(name)
    }

    /// An account as it is quoted, inside a text constant.
    #[must_use]
    pub fn account_in_text(self, account: &Account) -> Self {
        self.quoted(&account.to_string().replace('\'', "''"))
    }

    /// An account, quoted.
    #[must_use]
    pub fn account(self, account: &Account) -> Self {
        self.quoted(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_105_names_that_are_not_plain_are_no_names() {
        for hostile in ["x`; DROP USER root; --", "a.b", "a b", "%", "'", "\\", ""] {
            assert!(Ident::new(hostile).is_err(), "{hostile}");
        }
        let name = Ident::new("lease_create_0a1b").unwrap();
        assert_eq!(name.to_string(), "`lease_create_0a1b`");
    }

    #[test]
    fn case_108_names_that_would_be_cut_are_refused() {
        assert!(Ident::new(&"a".repeat(64)).is_ok());
        assert!(Ident::new(&"a".repeat(65)).is_err());
    }

    #[test]
    fn case_115_text_stays_text() {
        let sql = Sql::new("CALL p(").literal("it's\\').").text(")");
        assert_eq!(sql.as_str(), "CALL p('it''s\\'').')");
    }
}
