//! The reviewers' pages, as a browser gets them: over a real broker, with sign-in and target played.

mod browser;
mod chromium;
mod decide;
mod forms;
mod forwarded;
mod look;
mod people;
mod sessions;
mod shop;
