//! SQL text from parts that cannot be confused: fixed text, names, text constants, numbers.
//!
//! Databases take no parameters in statements about roles and accounts, so such statements are built as text. [`Sql`] is
//! the only way to build one: what is not `&'static str` is quoted, names read back from a catalog as well.

use std::fmt;
use std::marker::PhantomData;

/// How a database quotes.
pub trait Dialect {
    /// A checked name. It is displayed quoted.
    type Ident: fmt::Display;

    /// A text constant, quoted.
    fn literal(text: &str) -> String;
}

/// A statement, or several, being written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sql<D> {
    text: String,
    dialect: PhantomData<D>,
}

impl<D: Dialect> Sql<D> {
    /// Begins with fixed text.
    pub fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            dialect: PhantomData,
        }
    }

    /// Fixed text.
    #[must_use]
    pub fn text(mut self, text: &'static str) -> Self {
        self.text.push_str(text);
        self
    }

    /// A name, quoted.
    #[must_use]
    pub fn ident(self, ident: &D::Ident) -> Self {
        self.quoted(ident)
    }

    /// Names, quoted, with commas.
    #[must_use]
    pub fn idents<'a>(mut self, idents: impl IntoIterator<Item = &'a D::Ident>) -> Self
    where
        D::Ident: 'a,
    {
        for (index, ident) in idents.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            self = self.ident(ident);
        }
        self
    }

    /// A text constant, quoted.
    #[must_use]
    pub fn literal(self, text: &str) -> Self {
        self.quoted(&D::literal(text))
    }

    /// A number.
    #[must_use]
    pub fn number(self, number: i64) -> Self {
        self.quoted(&number)
    }

    /// Other statements behind these.
    #[must_use]
    pub fn then(self, other: &Self) -> Self {
        self.quoted(&other.text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Something that displays itself as this dialect reads it.
    pub(super) fn quoted(mut self, part: &dyn fmt::Display) -> Self {
        self.text.push_str(&part.to_string());
        self
    }
}

impl<D> fmt::Display for Sql<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
