//! The JSON API in front of a real broker.

mod access;
mod bench;
mod document;
mod hostile;
mod life;
mod problems;
mod slow;
