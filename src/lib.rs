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
//! | [`store`] | where the ledger is kept: SQLite, PostgreSQL, memory | `domain`, `ledger`, `config` |
//! | [`issuers`] | mint and end credentials: PostgreSQL | `domain`, `config` |
//! | [`identity`] | agents and people prove who they are | `domain`, `config`, `system`, trait `Store` |
//! | [`broker`] | the two loops: decide and append; claim, do and record | `domain`, `policy`, `ledger`, `system`, traits |
//! | [`http`] | the JSON API | `domain`, `broker`, `identity`, `system` |
//! | [`web`] | the reviewers' pages | `domain`, `broker`, `identity` |
//! | [`cli`] | the commands | the HTTP API through `countersign-client`; `wiring` to serve |
//! | [`wiring`] | configuration to adapters to a running broker | anything |

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
