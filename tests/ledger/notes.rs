//! Signed notes, checkpoints and keys, against published vectors and an independent implementation.

use countersign::domain::Digest;
use countersign::ledger::{NoteError, SigningKey, Tree, VerifyingKey};
use proptest::prelude::*;
use signed_note::{Note, StandardVerifier, VerifierList};

use super::{ORIGIN, key_counting_from, log_key};

const VKEY: &str = "broker.example.com/audit+bbdf3587+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const CHECKPOINT: &str = "broker.example.com/audit\n3\nPbZ2Ze6owm3jQWaMHTGZ9h3kt4CoKFaaiYzkjCjZMfM=\n\n\
— broker.example.com/audit u981h4DcPTpSP3U2fjfMzzGHNTu7h5f2n4LOSmF2bnU7Po6RqtleBEp8gR3mfUiNZpe+h6kQdRnctX9CCbJo5ESi/Q8=\n";
const COSIGNATURE: &str = "— witness.example/w1 IDJKvgAAAABlU/EAKVmoMZKEVrqchHCp9EOcuOlhM4/UtzLjIeWjFI+BWw6Zh88Q0qekN83E+UdMGrbBGAgisJu82Qr+TIPB2qfaBg==\n";

fn tree_of_three() -> Tree {
    let mut tree = Tree::default();
    for seq in 0..3 {
        tree.append(format!("{{\"seq\":{seq}}}").as_bytes());
    }
    tree
}

#[test]
fn checkpoints_are_signed_as_published() {
    let key = log_key();
    assert_eq!(key.verifying_key().to_string(), VKEY);
    assert_eq!(key.sign_checkpoint(3, &tree_of_three().root()), CHECKPOINT);
    let vkey: VerifyingKey = VKEY.parse().unwrap();
    for note in [CHECKPOINT.to_owned(), format!("{CHECKPOINT}{COSIGNATURE}")] {
        let checkpoint = vkey.open_checkpoint(&note).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), (ORIGIN, 3));
        assert_eq!(checkpoint.root, tree_of_three().root());
    }
}

#[test]
fn the_example_of_the_note_specification_opens() {
    let vkey: VerifyingKey =
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
            .parse()
            .unwrap();
    let text = "This is an example message.\n";
    let note = format!(
        "{text}\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    );
    assert_eq!(vkey.open(&note).unwrap(), text);
    assert!(matches!(
        vkey.open_checkpoint(&note),
        Err(NoteError::Malformed(_))
    ));
}

#[test]
fn case_150_a_note_that_is_not_by_the_key_is_refused() {
    let vkey: VerifyingKey = VKEY.parse().unwrap();
    let other = key_counting_from(ORIGIN, 1);
    let root = tree_of_three().root();
    let by_other = other.sign_checkpoint(3, &root);
    assert!(matches!(
        vkey.open_checkpoint(&by_other),
        Err(NoteError::Unsigned(_))
    ));
    // The other key's signature under this key's id.
    let signature = by_other
        .lines()
        .last()
        .unwrap()
        .split(' ')
        .next_back()
        .unwrap();
    let own = CHECKPOINT
        .lines()
        .last()
        .unwrap()
        .split(' ')
        .next_back()
        .unwrap();
    let forged = CHECKPOINT.replace(own, &format!("{}{}", &own[..8], &signature[8..]));
    assert!(vkey.open_checkpoint(&forged).is_err());
    // Right key, other log.
    let elsewhere = key_counting_from("elsewhere.example.com", 0).sign_checkpoint(3, &root);
    assert!(vkey.open_checkpoint(&elsewhere).is_err());
    // A good and a bad signature by the same key: somebody tampered.
    let line = forged.lines().last().unwrap();
    assert!(
        vkey.open_checkpoint(&format!("{CHECKPOINT}{line}\n"))
            .is_err()
    );
}

#[test]
fn malformed_notes_are_refused() {
    let vkey: VerifyingKey = VKEY.parse().unwrap();
    let mut wrong: Vec<String> = ["", "\n", "\n\n", "\n\n\n", "text", "text\n", "text\n\n"]
        .map(Into::into)
        .into();
    wrong.push(CHECKPOINT.trim_end().into());
    wrong.push(CHECKPOINT.replace("\n\n", "\n"));
    wrong.push(CHECKPOINT.replace("\n3\n", "\n3\r\n"));
    wrong.push(CHECKPOINT.replace("— ", "- "));
    wrong.push(CHECKPOINT.replace("u981", "u 981"));
    wrong.push(format!("{CHECKPOINT}\n"));
    wrong.push(format!("{CHECKPOINT}{}", COSIGNATURE.repeat(100)));
    for note in wrong {
        assert!(vkey.open(&note).is_err(), "{note:?}");
    }
    let key = log_key();
    for text in [
        "x\n",
        "broker.example.com/audit\n3\n",
        "broker.example.com/audit\n03\nPbZ2Ze6owm3jQWaMHTGZ9h3kt4CoKFaaiYzkjCjZMfM=\n",
        "broker.example.com/audit\n+3\nPbZ2Ze6owm3jQWaMHTGZ9h3kt4CoKFaaiYzkjCjZMfM=\n",
        "broker.example.com/audit\n3\nPbZ2\n",
    ] {
        let note = signed_by_another_implementation(text);
        assert!(key.verifying_key().open(&note).is_ok());
        assert!(
            key.verifying_key().open_checkpoint(&note).is_err(),
            "{text:?}"
        );
    }
}

/// Signs any text with the log key, which our own code does for checkpoints only.
fn signed_by_another_implementation(text: &str) -> String {
    use base64::Engine;
    let mut secret = vec![1_u8];
    secret.extend(0..32_u8);
    let secret = base64::engine::general_purpose::STANDARD.encode(secret);
    let signer =
        signed_note::StandardSigner::new(&format!("PRIVATE+KEY+{ORIGIN}+bbdf3587+{secret}"))
            .unwrap();
    let mut note = Note::new(text.as_bytes(), &[]).unwrap();
    note.add_sigs(&[&signer]).unwrap();
    String::from_utf8(note.to_bytes()).unwrap()
}

#[test]
fn verifier_keys_have_one_spelling() {
    assert_eq!(VKEY.parse::<VerifyingKey>().unwrap().to_string(), VKEY);
    for wrong in [
        "",
        "broker.example.com/audit",
        &VKEY.replace("bbdf3587", "bbdf3588"),
        &VKEY.replace("bbdf3587", "BBDF3587"),
        &VKEY.replace("AQOh", "AgOh"),
        &VKEY.replace("broker", "broke r"),
        &VKEY[..VKEY.len() - 4],
        &format!("{VKEY}\n"),
    ] {
        assert!(wrong.parse::<VerifyingKey>().is_err(), "{wrong:?}");
    }
    for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b"] {
        assert!(SigningKey::generate(name, |_| ()).is_err(), "{name:?}");
    }
}

#[test]
fn the_signing_key_survives_its_file_and_is_never_printed() {
    let key = log_key();
    let text = key.to_secret_text();
    let secret = text.trim_end().split('+').next_back().unwrap().to_owned();
    let again = SigningKey::from_secret_text(&text).unwrap();
    assert_eq!(again.verifying_key(), key.verifying_key());
    assert_eq!(
        again.sign_checkpoint(0, &Digest::of(b"")),
        key.sign_checkpoint(0, &Digest::of(b""))
    );
    assert_eq!(format!("{key:?}"), format!("SigningKey({VKEY})"));
    for wrong in [
        String::new(),
        secret.clone(),
        text.replace("bbdf3587", "bbdf3588"),
        text.replace(&secret, &secret[4..]),
        text.replace("broker.example.com", "other.example.com"),
    ] {
        let error = SigningKey::from_secret_text(&wrong).unwrap_err();
        assert!(!error.to_string().contains(&secret[..8]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn another_implementation_verifies_our_checkpoints_and_we_its_notes(
        size in 0..u64::MAX, root in any::<[u8; 32]>(), seed in any::<u8>(), name in "[a-z]{1,20}(\\.[a-z]{1,8}){0,3}(/[a-z0-9_-]{1,9})?"
    ) {
        let key = key_counting_from(&name, seed / 2);
        let note = key.sign_checkpoint(size, &Digest(root));
        let verifier = StandardVerifier::new(&key.verifying_key().to_string()).unwrap();
        let parsed = Note::from_bytes(note.as_bytes()).unwrap();
        let (good, unknown) = parsed.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        prop_assert_eq!((good.len(), unknown.len()), (1, 0));
        let theirs = tlog_tiles::Checkpoint::from_bytes(parsed.text()).unwrap();
        prop_assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (name.as_str(), size, root));
        let ours = key.verifying_key().open_checkpoint(&note).unwrap();
        prop_assert_eq!((ours.size, ours.root.0), (size, root));
    }

    #[test]
    fn any_change_to_a_checkpoint_is_refused(at in 0..CHECKPOINT.len(), flip in 1..=255_u8) {
        let vkey: VerifyingKey = VKEY.parse().unwrap();
        let mut bytes = CHECKPOINT.as_bytes().to_vec();
        bytes[at] ^= flip;
        if let Ok(note) = String::from_utf8(bytes) {
            prop_assert!(vkey.open_checkpoint(&note).is_err(), "{}", note);
        }
    }
}
