//! Configuration to adapters to a running broker: the only place that names adapters.
//!
//! * [`serve`], [`dev`] run a broker · [`check`], [`doctor`] look at a set-up · [`verify_ledger`] at a ledger
//! * [`accept_ledger`] lets a broker go on with another ledger than the one it knew

mod accept;
mod audit;
mod aws;
mod clock;
mod files;
mod gate;
mod inspect;
mod ledger;
mod log;
mod people;
mod run;
mod setup;

pub use accept::{NothingToAccept, accept_ledger};
pub use inspect::{check, doctor, init_iam, init_sql};
pub use ledger::{NotRead, verify_ledger};
pub use log::{LogFormat, start_log};
pub use run::{dev, serve};
