//! SQL text from parts that cannot be confused: fixed text, identifiers, literals, numbers.
//!
//! PostgreSQL takes no parameters in DDL, so statements are built as text. [`Sql`] is the only way to build one
//! in this issuer: what is not `&'static str` is quoted, names read back from the catalog as well.

use std::fmt;

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

/// A text constant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Literal(String);

impl Literal {
    /// A constant. A NUL, which PostgreSQL cannot hold, ends the text.
    pub fn new(text: &str) -> Self {
        Self(text.split('\0').next().unwrap_or_default().to_owned())
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self.0.replace('\'', "''");
        if quoted.contains('\\') {
            // Read the same whatever standard_conforming_strings says.
            write!(f, "E'{}'", quoted.replace('\\', "\\\\"))
        } else {
            write!(f, "'{quoted}'")
        }
    }
}

/// A statement, or several, being written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sql(String);

impl Sql {
    /// Begins with fixed text.
    pub fn new(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// Fixed text.
    #[must_use]
    pub fn text(mut self, text: &'static str) -> Self {
        self.0.push_str(text);
        self
    }

    /// An identifier, quoted.
    #[must_use]
    pub fn ident(mut self, ident: &Ident) -> Self {
        self.0.push_str(&ident.to_string());
        self
    }

    /// Identifiers, quoted, with commas.
    #[must_use]
    pub fn idents(mut self, idents: &[Ident]) -> Self {
        for (index, ident) in idents.iter().enumerate() {
            if index > 0 {
                self.0.push_str(", ");
            }
            self = self.ident(ident);
        }
        self
    }

    /// A text constant, quoted.
    #[must_use]
    pub fn literal(mut self, text: &str) -> Self {
        self.0.push_str(&Literal::new(text).to_string());
        self
    }

    /// A number.
    #[must_use]
    pub fn number(mut self, number: i64) -> Self {
        self.0.push_str(&number.to_string());
        self
    }

    /// Other statements behind these.
    #[must_use]
    pub fn then(mut self, other: &Sql) -> Self {
        self.0.push_str(&other.0);
        self
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
            assert_eq!(Literal::new(text).to_string(), quoted);
        }
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
