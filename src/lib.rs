//! Countersign: a credential broker for AI agents.
//!
//! An agent asks for a named action; policy lets routine actions through at once, or a person
//! countersigns exactly that action; the broker mints a short-lived, scoped credential, ends it when the
//! action is done, and proves that it is gone. Every step is an entry in a ledger outsiders can verify.
//!
//! | module | what it is | may import |
//! |---|---|---|
//! | [`domain`] | the heart: values and pure functions | nothing of ours |
//! | [`policy`] | catalog and Cedar policies, verdicts | `domain` |
//! | [`ledger`] | canonical entries, Merkle tree, checkpoints, verification | `domain` |
//! | [`config`] | `countersign.toml` as a typed tree | `domain` |
//! | [`system`] | the clock and randomness as values | `domain` |
//! | [`store`] | where the ledger is kept: SQLite, PostgreSQL, memory | `domain`, `ledger` |
//! | [`issuers`] | mint and end credentials: PostgreSQL, MariaDB, AWS | `domain`, `config`, `system` |
//! | [`identity`] | agents and people prove who they are | `domain`, `config`, `system`; the port of `store` |
//! | [`broker`] | the two loops: decide and append; claim, do and record | `domain`, `ledger`, `system`; the ports of `store` and `issuers` |
//! | [`http`] | the JSON API | `domain`, `broker`, `identity`, `system` |
//! | [`web`] | the reviewers' pages | `domain`, `broker`, `identity` |
//! | [`cli`] | the commands | `wiring` to serve, `system`; the HTTP API through `countersign-client` |
//! | [`wiring`] | configuration to adapters to a running broker | anything |
//!
//! A port is a trait and its plain types, never an adapter behind it. `tests/architecture` enforces this table.

pub mod broker;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod identity;
pub mod issuers;
pub mod ledger;
pub mod policy;
pub mod store;
pub mod system;
pub mod web;
pub mod wiring;
