//! Catalog, agents and Cedar policies: a bundle of texts, checked as a whole, and the verdicts it gives.
//!
//! Pure: it takes paths and texts and returns values; nothing is read, written or called. It promises:
//! * a bundle with any mistake is not loaded, and *all* mistakes are reported, each with what to write instead;
//! * a question ends in yes only when a policy permits it, none forbids it, and nothing went wrong on the way;
//! * the scope index in front of Cedar never changes an answer, only what it costs.

mod agents;
mod bundle;
mod catalog;
mod check;
mod document;
mod duration;
mod facts;
mod fields;
mod index;
mod lints;
mod mistake;
mod policies;
mod remembered;
mod schema;
mod scope;
mod statements;
mod trial;

pub use bundle::{Bundle, is_bundle_file};
pub use check::{Report, Trial, check, render};
pub use document::Document;
pub use mistake::Mistake;
pub use remembered::Remembered;
pub use schema::schema_text;

/// The largest file of a bundle, in bytes.
pub const LARGEST_FILE: usize = 1024 * 1024;
/// The largest bundle, in bytes.
pub const LARGEST_BUNDLE: usize = 4 * 1024 * 1024;
