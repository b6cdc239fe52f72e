//! The laws of the design, on the pure core: every test is named after the law it protects.

mod acknowledged;
mod approval;
mod clock;
mod desk;
mod domain;
mod duties;
mod guards;
mod named;
mod random;
mod targets;
