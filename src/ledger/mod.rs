//! The ledger as a format: what an entry is in bytes, the Merkle tree over all entries, its signed head,
//! and how an outsider checks all of it. Pure: values in, values out; storage is `store`'s business.
//!
//! * [`entry`]: canonical bytes of an [`Entry`](crate::domain::Entry), and back
//! * [`tree`]: RFC 6962 tree: append, root, proofs
//! * [`note`], [`checkpoint`]: C2SP signed notes and checkpoints, and their keys
//! * [`blob`]: erasable texts by salted hash
//! * [`tiles`]: the log as C2SP tlog-tiles files
//! * [`export`]: the whole log in one file; [`verify`](verify()) checks it, naming the first bad entry: a [`failure`]
//! * `ahead`: decoding on other threads what is read next
//! * [`packed`]: how a store keeps an entry's bytes
//! * [`reader`]: reading entries that count only once the key has vouched for them
//! * [`snapshot`]: a fold of the log, sealed by its key
//! * [`stored`]: the head and the entries as a store keeps them

mod ahead;
pub mod blob;
pub mod checkpoint;
pub mod entry;
pub mod export;
pub mod failure;
pub mod note;
pub mod packed;
pub mod reader;
pub mod snapshot;
pub mod stored;
pub mod tiles;
pub mod tree;
pub mod verify;

pub use blob::Blob;
pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use entry::{EntryError, decode, encode, index};
pub use export::{ExportError, ExportReader, ExportWriter};
pub use failure::{Failure, Problem};
pub use note::{NoteError, SigningKey, VerifyingKey};
pub use reader::{Decoded, Reader};
pub use snapshot::Snapshot;
pub use stored::{EntryIndex, Head, StoredEntry};
pub use tree::Tree;
pub use verify::{Verified, Verifier, verify};
