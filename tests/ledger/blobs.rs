//! Erasable texts: the salted hash binds the text, and alone it says nothing.

use countersign::domain::Digest;
use countersign::ledger::Blob;
use proptest::prelude::*;

#[test]
fn the_hash_is_over_salt_and_text() {
    let blob = Blob::new(*b"0123456789abcdef", b"because".to_vec());
    assert_eq!(blob.sha256, Digest::of(b"0123456789abcdefbecause"));
    assert_ne!(blob.sha256, Blob::new([0; 16], b"because".to_vec()).sha256);
}

proptest! {
    #[test]
    fn a_changed_blob_is_noticed(salt in any::<[u8; 16]>(), text in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let blob = Blob::new(salt, text);
        prop_assert!(blob.is_intact());
        let mut changed = blob.clone();
        let at_text = at.index(changed.bytes.len());
        changed.bytes[at_text] ^= flip;
        prop_assert!(!changed.is_intact());
        let mut changed = blob.clone();
        changed.salt[at.index(16)] ^= flip;
        prop_assert!(!changed.is_intact());
        let mut changed = blob;
        changed.sha256.0[at.index(32)] ^= flip;
        prop_assert!(!changed.is_intact());
    }
}
