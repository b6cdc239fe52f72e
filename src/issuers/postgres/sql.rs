//! How PostgreSQL names and quotes.

use std::fmt;

use crate::issuers::sql::{self, Dialect};

/// Longest identifier PostgreSQL keeps; it cuts longer ones silently, so two of them could be one role.
pub const LONGEST_IDENT: usize = 63;

/// A name of a role, database, schema or table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ident(String);

impl Ident {
    /// A name as it stands in the catalog.
    ///
    /// # Errors
    /// When PostgreSQL would cut it or cannot hold it.
    pub fn new(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.len() > LONGEST_IDENT || name.contains('\0') {
            return Err(format!(
                "{name:?} cannot be a PostgreSQL name: use 1 to {LONGEST_IDENT} bytes"
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
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// PostgreSQL's way to quote.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Postgres;

/// A statement, or several, for PostgreSQL.
pub type Sql = sql::Sql<Postgres>;

impl sql::Sql<Postgres> {
    /// Something in a schema: "schema"."name".
    #[must_use]
    pub fn path(self, schema: &Ident, name: &Ident) -> Self {
        self.ident(schema).text(".").ident(name)
    }

    /// An array of text constants.
    #[must_use]
    pub fn texts<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        self = self.text("ARRAY[");
        for (index, text) in texts.into_iter().enumerate() {
            self = self.text(if index == 0 { "" } else { ", " }).literal(text);
        }
        self.text("]::pg_catalog.text[]")
    }
}

impl Dialect for Postgres {
    type Ident = Ident;

    /// A NUL, which PostgreSQL cannot hold, ends the text.
    fn literal(text: &str) -> String {
        let text = text.split('\0').next().unwrap_or_default();
        let quoted = text.replace('\'', "''");
        if quoted.contains('\\') {
            // Read the same whatever standard_conforming_strings says.
            format!("E'{}'", quoted.replace('\\', "\\\\"))
        } else {
            format!("'{quoted}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_105_hostile_names_stay_names() {
        let hostile = Ident::new("x FROM z3; ALTER ROLE z3 SUPERUSER; --").unwrap();
        let sql = Sql::new("DROP SCHEMA ").ident(&hostile);
        assert_eq!(
            sql.as_str(),
            "DROP SCHEMA \"x FROM z3; ALTER ROLE z3 SUPERUSER; --\""
        );
        let quote = Ident::new("a\"; DROP ROLE b; --").unwrap();
        assert_eq!(quote.to_string(), "\"a\"\"; DROP ROLE b; --\"");
    }

    #[test]
    fn case_115_hostile_text_stays_text() {
        for (text, quoted) in [
            ("it's", "'it''s'"),
            ("$$; DROP ROLE a; $$", "'$$; DROP ROLE a; $$'"),
            ("{{name}}", "'{{name}}'"),
            ("\\'; DROP ROLE a; --", "E'\\\\''; DROP ROLE a; --'"),
            ("cut\0here", "'cut'"),
        ] {
            assert_eq!(Postgres::literal(text), quoted);
        }
    }

    #[test]
    fn arrays_of_hostile_text_stay_arrays_of_text() {
        let array = |texts: &[&str]| Sql::default().texts(texts.iter().copied()).to_string();
        assert_eq!(array(&[]), "ARRAY[]::pg_catalog.text[]");
        assert_eq!(
            array(&["a", "b', 'c", "{x,y}"]),
            "ARRAY['a', 'b'', ''c', '{x,y}']::pg_catalog.text[]"
        );
    }

    #[test]
    fn case_108_names_that_would_be_cut_are_refused() {
        assert!(Ident::new(&"a".repeat(63)).is_ok());
        assert!(Ident::new(&"a".repeat(64)).is_err());
        assert!(Ident::new(&"é".repeat(32)).is_err());
        assert!(Ident::new("").is_err());
        assert!(Ident::new("a\0b").is_err());
    }
}
