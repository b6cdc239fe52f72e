//! Issuers against real servers: one conformance suite, one test per abuse case.

mod aws_bench;
mod conformance;
mod mariadb;
mod mariadb_shop;
mod postgres;
mod postgres_agents;
mod postgres_cleanup;
mod postgres_hostile;
mod postgres_rehearsal;
mod shop;
mod wire;
