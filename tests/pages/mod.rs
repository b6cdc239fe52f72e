//! The reviewers' pages, as a browser gets them: over a real broker, with sign-in and target played.

pub mod browser;
pub mod chromium;
mod decide;
mod forms;
mod forwarded;
mod look;
mod people;
mod sessions;
mod shop;
