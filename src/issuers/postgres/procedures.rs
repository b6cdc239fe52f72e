//! The functions a DBA reviews once: what each is, and the text that makes it.
//!
//! A function is fixed text. Everything that differs between targets is in [`Names`]; nothing of a lease is in it. Each one
//! is made `SECURITY DEFINER` and looks names up in `pg_catalog` first, then in our own schema, so that its operators and
//! its unqualified names (`lease`, `scope_problems(…)`) mean what they meant when the DBA read it. Its statements are planned
//! once a session: planning them anew each time takes as long as all the rest.

use super::sql::{Ident, Sql};
use crate::config::PostgresTarget;
use crate::domain::Digest;

const MOST_MINTERS: u32 = 999;
/// How long a login may stay possible beyond the longest lease, in seconds: a minute of grace, and clocks that differ.
const SLACK: i64 = 600;

/// The roles and the schema everything of ours at a target is named after.
#[derive(Clone, Debug)]
pub struct Names {
    /// The schema of our functions and tables, in each prepared database; also the prefix of our roles.
    pub schema: Ident,
    /// The broker's account.
    pub broker: Ident,
    /// The role that owns our functions and tables: it may end sessions, and have a minter run a statement.
    pub keeper: Ident,
    /// How many roles share the making of leases.
    pub minters: u32,
    /// The longest life of a lease, in seconds.
    pub longest: i64,
}

impl Names {
    /// Those of `target`.
    ///
    /// # Errors
    /// When a name in its configuration cannot be one.
    pub fn of(target: &PostgresTarget) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let procedures = &target.procedures;
        if !procedures.bytes().all(plain) || procedures.len() > 40 || procedures.starts_with("pg_")
        {
            return Err(format!(
                "procedures {procedures:?} must be 1 to 40 of a-z 0-9 _ and not begin with pg_"
            ));
        }
        let role = |name: &str| Ident::new(&format!("{procedures}_{name}"));
        if !(1..=MOST_MINTERS).contains(&target.minters) {
            return Err(format!("minters must be from 1 to {MOST_MINTERS}"));
        }
        if target.user.starts_with(&format!("{procedures}_minter_"))
            || [
                format!("{procedures}_keeper"),
                format!("{procedures}_granter"),
            ]
            .contains(&target.user)
            || target.user.starts_with("jit_")
        {
            return Err(format!(
                "the broker's role must be its own: {:?} is taken",
                target.user
            ));
        }
        Ok(Self {
            schema: Ident::new(procedures)?,
            broker: Ident::new(&target.user)?,
            keeper: role("keeper")?,
            minters: target.minters,
            longest: i64::try_from(target.longest_ttl_seconds)
                .unwrap_or(i64::MAX)
                .saturating_add(SLACK),
        })
    }

    /// The role that makes and drops the leases of shard `number`.
    ///
    /// # Errors
    /// When the name would be too long.
    pub fn minter(&self, number: u32) -> Result<Ident, String> {
        Ident::new(&format!("{}_minter_{number:03}", self.schema.as_str()))
    }
}

/// Whose rights a function has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// One function for each minter, named `NAME_000` and so on, that runs a statement with its rights. Only the keeper may
    /// call it: use `as_minter(lease, statement)`.
    Minters,
    /// The role all logic belongs to.
    Keeper,
}

/// Who may call a function. Those of the keeper call each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callers {
    /// The broker.
    Broker,
    /// Our own functions only.
    Inside,
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
    /// Whose rights it has.
    pub owner: Owner,
    /// Who may call it.
    pub callers: Callers,
    /// What stands between the quotes, in PL/pgSQL. It may not contain `$body$` or `$do$`.
    pub body: Sql,
}

impl Function {
    /// One of the keeper's, with a body of fixed text.
    pub fn new(
        name: &'static str,
        arguments: &'static str,
        returns: &'static str,
        callers: Callers,
        body: &'static str,
    ) -> Self {
        Self {
            name,
            arguments,
            returns,
            owner: Owner::Keeper,
            callers,
            body: Sql::new(body),
        }
    }

    /// The hash of its body, as the server computes it too.
    pub fn digest(&self) -> String {
        hex::encode(Digest::of(self.body.as_str().as_bytes()).0)
    }
}

/// All functions of a prepared database.
pub fn all(names: &Names) -> Vec<Function> {
    let minters = i64::from(names.minters.max(1));
    let minters = Sql::new("DECLARE\n    minters constant integer := ").number(minters);
    let as_minter = minters
        .clone()
        .text(";\n")
        .text(include_str!("functions/as_minter.sql"));
    let lease_minters = minters
        .text(";\n")
        .text(include_str!("functions/lease_minters.sql"));
    let mint = Sql::new("DECLARE\n    longest constant interval := '")
        .number(names.longest)
        .text("s';\n")
        .text(include_str!("functions/lease_mint.sql"));
    let mut functions = vec![
        Function {
            owner: Owner::Minters,
            ..Function::new(
                "as_minter",
                "statement text",
                "void",
                Callers::Inside,
                "BEGIN EXECUTE statement; END",
            )
        },
        Function {
            body: as_minter,
            ..Function::new(
                "as_minter",
                "lease text, statement text",
                "void",
                Callers::Inside,
                "",
            )
        },
        Function {
            body: lease_minters,
            ..Function::new(
                "lease_minters",
                "leases text[]",
                "TABLE (theirs text[])",
                Callers::Inside,
                "",
            )
        },
        Function::new(
            "server_identity",
            "",
            "text",
            Callers::Broker,
            include_str!("functions/server_identity.sql"),
        ),
        Function {
            body: mint,
            ..Function::new(
                "lease_mint",
                "handle text, deployment text, request text, agent text, verifier text, groups text[], as_role text, rows jsonb, unbound text[], limits integer[], valid_until timestamptz, mint_until timestamptz, server text",
                "void",
                Callers::Broker,
                "",
            )
        },
    ];
    functions.extend(ends());
    functions.extend(super::judgement::functions());
    functions.extend(super::residue::functions());
    functions
}

/// The functions that end leases and look for them.
fn ends() -> [Function; 8] {
    let function = |name, arguments, returns, body| {
        Function::new(name, arguments, returns, Callers::Broker, body)
    };
    [
        function(
            "lease_kill",
            "handles text[], deployment text",
            "integer",
            include_str!("functions/lease_kill.sql"),
        ),
        function(
            "server_relieve",
            "deployment text",
            "integer",
            include_str!("functions/server_relieve.sql"),
        ),
        function(
            "lease_fence",
            "handles text[], deployment text, server text",
            "TABLE (unfenced text, words text)",
            include_str!("functions/lease_fence.sql"),
        ),
        function(
            "lease_close",
            "handles text[], deployment text, server text",
            "TABLE (closed text, outcome text, words text)",
            include_str!("functions/lease_close.sql"),
        ),
        function(
            "lease_look",
            "handles text[], deployment text, server text",
            "TABLE (looked text, there boolean, sessions bigint, prepared bigint, under_way boolean, residue text[], elsewhere text[])",
            include_str!("functions/lease_look.sql"),
        ),
        function(
            "lease_list",
            "asking text",
            "TABLE (handle text, deployment text)",
            include_str!("functions/lease_list.sql"),
        ),
        function(
            "lease_prepared",
            "lease text, deployment text",
            "TABLE (gid text, database text)",
            include_str!("functions/lease_prepared.sql"),
        ),
        function(
            "lease_lend",
            "lease text, deployment text, server text, lent boolean",
            "void",
            include_str!("functions/lease_lend.sql"),
        ),
    ]
}
