//! The functions a DBA reviews once: what each is, and the text that makes it.
//!
//! A function is fixed text. Everything that differs between targets is in [`Names`]; nothing of a lease is in it. Each one
//! is made `SECURITY DEFINER` and looks names up in `pg_catalog` first, then in our own schema, so that its operators and
//! its unqualified names (`lease`, `scope_problems(…)`) mean what they meant when the DBA read it.

use super::sql::{Ident, Sql};

/// The roles and the schema everything of ours at a target is named after.
#[derive(Clone, Debug)]
pub struct Names {
    /// The schema of our functions and tables, in each prepared database; also the prefix of our roles.
    pub schema: Ident,
    /// The broker's account.
    pub broker: Ident,
    /// The role that holds the group roles and may pass them on.
    pub granter: Ident,
    /// The role that owns our functions and tables: it may end sessions, and have a minter run a statement.
    pub keeper: Ident,
    /// How many roles share the making of leases.
    pub minters: u32,
    /// The longest life of a lease, in seconds.
    pub longest: i64,
}

impl Names {
    /// The role that makes and drops the leases of shard `number`.
    ///
    /// # Errors
    /// When the name would be too long.
    pub fn minter(&self, number: u32) -> Result<Ident, String> {
        Ident::new(&format!("{}_minter_{number:02}", self.schema.as_str()))
    }
}

/// Whose rights a function has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// One function for each minter, named `NAME_00` and so on, that runs a statement with its rights. Only the keeper may
    /// call it: use `as_minter(lease, statement)`.
    Minters,
    /// The role all logic belongs to.
    Keeper,
}

/// Who may call a function besides its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callers {
    /// The broker.
    Broker,
    /// Our own functions.
    Inside,
    /// The broker and our own functions.
    Both,
}

/// What the body is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// `sql`.
    Sql,
    /// `plpgsql`.
    Plpgsql,
}

impl Language {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::Sql => "sql",
            Language::Plpgsql => "plpgsql",
        }
    }
}

/// A function of ours in a prepared database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name; those of minters have the number of the shard behind it.
    pub name: &'static str,
    /// Its arguments as they stand between the parentheses, types qualified by what `pg_catalog` calls them.
    pub arguments: &'static str,
    /// What stands behind `RETURNS`.
    pub returns: &'static str,
    /// What the body is written in.
    pub language: Language,
    /// Whose rights it has.
    pub owner: Owner,
    /// Who may call it.
    pub callers: Callers,
    /// What stands between the quotes. It may not contain `$body$` or `$do$`.
    pub body: Sql,
}
