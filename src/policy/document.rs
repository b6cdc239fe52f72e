//! A bundle as one document: everything its verdicts depend on. Its digest is the bundle's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mistake::{Findings, Mistake};
use crate::domain::TargetName;
use crate::domain::canonical;
use crate::domain::rules::Limits;

/// What a bundle is made of. Two brokers whose documents differ in anything have different bundles.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Texts by their paths relative to the bundle's directory.
    pub files: BTreeMap<String, String>,
    /// Issuers of people's identity providers, by the names that files use for them.
    pub people: BTreeMap<String, String>,
    /// What each target is and allows, in the words of its issuer.
    pub targets: BTreeMap<TargetName, Value>,
    /// The bounds that `decide` keeps.
    pub limits: Limits,
}

impl Document {
    /// Reads the canonical JSON (RFC 8785) that a bundle is stored as.
    ///
    /// # Errors
    /// When the bytes are no document, or spell one in another way.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Vec<Mistake>> {
        let read = serde_json::from_slice::<Self>(bytes).ok();
        let canonical =
            read.filter(|document| canonical::to_vec(document).is_ok_and(|again| again == bytes));
        canonical.ok_or_else(|| {
            let mut findings = Findings::default();
            let message = "the stored bytes are not a bundle in canonical form";
            let instead = "the bundle, applied again from its files";
            findings.mistake_in("bundle", message, instead);
            findings.mistakes
        })
    }
}
