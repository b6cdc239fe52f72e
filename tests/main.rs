//! One integration binary, by subject.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod api;
mod architecture;
mod cli;
mod e2e;
mod identity;
mod issuers;
mod laws;
mod ledger;
mod pages;
mod policy;
mod simulation;
mod store;
mod support;
