//! Auditing a ledger that verifies: entries follow each other, claim nothing that is not so and, where their bundle is
//! at hand, come out the same when they are decided again.

use std::collections::{BTreeMap, VecDeque};

use super::setup::{compile, in_words};
use crate::domain::audit::audit;
use crate::domain::replay::{decision, replay};
use crate::domain::{Digest, Entry, Event, Rules, World};
use crate::issuers::{DeclaredTargets, IssuerSet};
use crate::policy::{Document, Remembered};

/// How many decisions policy had a word in, and how many of them were decided again.
#[derive(Default)]
pub(super) struct Decisions {
    /// Decided again, with the same entries.
    pub(super) replayed: u64,
    /// Not decided again: their bundle is not at hand, or cannot be loaded by this countersign.
    pub(super) not_replayed: u64,
    /// Why not, for the first of them.
    pub(super) why_not: Option<String>,
}

/// Takes the entries of a ledger one after the other.
#[derive(Default)]
pub(super) struct Audit {
    world: World,
    before: Option<Entry>,
    /// What a decision must still be followed by.
    owed: VecDeque<Event>,
    /// The bundle in force, or why it cannot be asked.
    in_force: Option<Result<(Remembered, DeclaredTargets), String>>,
    pub(super) decisions: Decisions,
}

impl Audit {
    /// The bundle that the next entry puts in force, from its bytes beside the ledger.
    ///
    /// # Errors
    /// When the bytes are not those that the entry names.
    pub(super) fn load(&mut self, bundle: Digest, bytes: Option<&[u8]>) -> Result<(), String> {
        let Some(bytes) = bytes else {
            self.in_force = Some(Err(format!("bundle {} is not at hand", bundle.short())));
            return Ok(());
        };
        if Digest::of(bytes) != bundle {
            return Err(format!("its content is not bundle {}", bundle.short()));
        }
        let document = Document::from_bytes(bytes).map_err(|wrong| in_words(&wrong));
        let compiled = document.and_then(|document| compile(&document, IssuerSet(BTreeMap::new())));
        let why = |wrong| format!("bundle {} cannot be loaded: {wrong}", bundle.short());
        let remembered = |(bundle, targets)| (Remembered::new(bundle), targets);
        self.in_force = Some(compiled.map(remembered).map_err(why));
        Ok(())
    }

    /// The fold of the entries taken.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// What is wrong with it, although it is signed.
    pub(super) fn take(&mut self, entry: Entry) -> Result<(), String> {
        let claims = audit(&self.world, self.before.as_ref(), &entry);
        let decided = self.decided(&entry);
        // What cannot follow at all is said in the words of the fold.
        let followed = self.world.apply(&entry).map(drop);
        followed.map_err(|error| error.to_string())?;
        self.before = Some(entry);
        claims.and(decided)
    }

    /// After the last entry.
    ///
    /// # Errors
    /// What is missing at the end.
    pub(super) fn finish(&self) -> Result<(), String> {
        self.owed.front().map_or(Ok(()), |owed| {
            let kind = owed.kind();
            Err(format!(
                "what was decided last leads to {kind}, which is missing"
            ))
        })
    }

    /// Whether an entry is what decisions lead to.
    fn decided(&mut self, entry: &Entry) -> Result<(), String> {
        if let Some(owed) = self.owed.pop_front() {
            let kind = owed.kind();
            let meant = owed == entry.event;
            return if meant {
                Ok(())
            } else {
                Err(format!("what was decided before leads to {kind} here"))
            };
        }
        let Some(command) = decision(entry) else {
            return Ok(());
        };
        let why_not = match &self.in_force {
            Some(Ok((bundle, targets))) => {
                let rules = Rules {
                    policy: bundle,
                    targets,
                };
                self.owed = replay(&self.world, &command, entry, &rules)?.into();
                self.decisions.replayed += 1;
                return Ok(());
            }
            Some(Err(why)) => why.clone(),
            None => "an export has no bundles; verify the store it was made of".into(),
        };
        self.decisions.not_replayed += 1;
        self.decisions.why_not.get_or_insert(why_not);
        Ok(())
    }
}
