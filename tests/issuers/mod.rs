//! Issuers against real servers: one conformance suite, one test per abuse case.

mod aws_account;
mod aws_bench;
mod aws_guards;
mod aws_many;
mod aws_rehearsal;
mod aws_sessions;
mod aws_suite;
mod conformance;
mod mariadb;
mod mariadb_rehearsal;
pub mod mariadb_shop;
mod orders;
mod postgres;
mod postgres_agents;
mod postgres_cleanup;
mod postgres_fight;
mod postgres_hostile;
mod postgres_judgement;
mod postgres_managed;
mod postgres_moved;
mod postgres_owner;
mod postgres_rehearsal;
mod shop;
mod wire;
