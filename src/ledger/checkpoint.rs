//! Checkpoints: the signed head of the log (C2SP tlog-checkpoint).
//!
//! A checkpoint says: these many entries, with this root. The key's name is the log's origin. Whoever
//! keeps one can later tell whether the log still has the same entries in the same order.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::note::{NoteError, SigningKey, VerifyingKey};
use crate::domain::Digest;

/// What a checkpoint says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log's origin.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root.0)
        )
    }

    /// Reads the text. Extension lines are allowed by the format and mean nothing here.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if lines.any(str::is_empty) {
            return None;
        }
        let number: u64 = size.parse().ok()?;
        let root = STANDARD.decode(root).ok()?;
        (number.to_string() == size).then_some(Self {
            origin: origin.to_owned(),
            size: number,
            root: Digest(root.try_into().ok()?),
        })
    }
}

/// A checkpoint and its signature, both from one act of signing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    /// The signed note.
    pub note: String,
    /// Key id and signature in base64, as in the note's last line.
    pub signature: String,
}

impl SigningKey {
    /// The checkpoint of the log's first `size` entries, whose root is `root`, as a signed note.
    pub fn sign_checkpoint(&self, size: u64, root: &Digest) -> String {
        self.sign_head(size, root).note
    }

    /// As [`SigningKey::sign_checkpoint`], with the signature on its own beside the note.
    pub fn sign_head(&self, size: u64, root: &Digest) -> SignedCheckpoint {
        let text = self.checkpoint(size, root).text();
        let signature = self.signature(&text);
        SignedCheckpoint {
            note: self.note(&text, &signature),
            signature,
        }
    }

    pub(super) fn checkpoint(&self, size: u64, root: &Digest) -> Checkpoint {
        Checkpoint {
            origin: self.verifying_key().name().to_owned(),
            size,
            root: *root,
        }
    }
}

impl VerifyingKey {
    /// What the checkpoint in `note` says, once this key has vouched for it.
    ///
    /// # Errors
    /// When it is not signed by this key, or is not a checkpoint of the log the key is named for.
    pub fn open_checkpoint(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint::parse(self.open(note)?)
            .ok_or(NoteError::Malformed("its text is not a checkpoint"))?;
        if checkpoint.origin == self.name() {
            Ok(checkpoint)
        } else {
            Err(NoteError::Malformed("it is a checkpoint of another log"))
        }
    }
}
