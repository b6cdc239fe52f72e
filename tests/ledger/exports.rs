//! Exports: written, read back and verified as they are.

use std::sync::OnceLock;

use countersign::domain::{Digest, Seconds, Time};
use countersign::ledger::export::{ExportedEntry, Line};
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{
    ExportReader, ExportWriter, Failure, Problem, SigningKey, Tree, Verified, Verifier,
    VerifyingKey, encode, verify,
};

use super::samples::log;
use super::{key_counting_from, log_key};

/// More than two of the windows the verifier works in.
pub(super) const SIZE: usize = 530;

pub(super) fn entries() -> &'static [Vec<u8>] {
    static ENTRIES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        log(SIZE)
            .iter()
            .map(|entry| encode(entry).unwrap())
            .collect()
    })
}

pub(super) fn root(entries: &[Vec<u8>]) -> Digest {
    let mut tree = Tree::default();
    entries.iter().for_each(|entry| tree.append(entry));
    tree.root()
}

pub(super) fn checkpoint(entries: &[Vec<u8>]) -> String {
    log_key().sign_checkpoint(entries.len() as u64, &root(entries))
}

pub(super) fn export_with(entries: &[Vec<u8>], key: &SigningKey, signed: bool) -> String {
    let writer = if signed {
        ExportWriter::signed(Vec::new(), key)
    } else {
        ExportWriter::unsigned(Vec::new(), key.verifying_key())
    };
    let mut writer = writer.unwrap();
    for entry in entries {
        writer.entry(entry).unwrap();
    }
    let note = key.sign_checkpoint(entries.len() as u64, &root(entries));
    String::from_utf8(writer.finish(&note).unwrap()).unwrap()
}

pub(super) fn export(entries: &[Vec<u8>]) -> String {
    export_with(entries, &log_key(), true)
}

/// Verifies `file`, which must come out as it does entry by entry, without reading ahead.
pub(super) fn check_bytes(file: &[u8], since: Option<&str>) -> Result<Verified, Failure> {
    let found = verify(file, log_key().verifying_key(), since, |_| Ok(()));
    let one_by_one = check_one_by_one(file, log_key().verifying_key(), since);
    assert_eq!(format!("{found:?}"), format!("{one_by_one:?}"));
    found
}

fn check_one_by_one(
    file: &[u8],
    key: &VerifyingKey,
    since: Option<&str>,
) -> Result<Verified, Failure> {
    let mut verifier = Verifier::new(key, since)?;
    let mut reader =
        ExportReader::new(file).map_err(|error| verifier.fail(0, Problem::Read(error)))?;
    if !reader.claimed_key().is_empty() && reader.claimed_key() != key.to_string() {
        let claimed = reader.claimed_key().chars().take(200).collect();
        return Err(verifier.fail(0, Problem::OtherKey(claimed)));
    }
    loop {
        let at = verifier.tree().size();
        match reader.next_line() {
            Ok(Some(Line::Entry(line))) => drop(verifier.entry(line)?),
            Ok(Some(Line::Checkpoint(note))) => {
                return match reader.next_line() {
                    Ok(None) => verifier.finish(&note),
                    _ => Err(verifier.fail(at, Problem::Trailing)),
                };
            }
            Ok(None) => return Err(verifier.fail(at, Problem::CutOff)),
            Err(error) => return Err(verifier.fail(at, Problem::Read(error))),
        }
    }
}

#[test]
fn l06_what_was_written_verifies_at_every_size() {
    for size in [1, 2, 3, 255, 256, 257, 513] {
        for signed in [true, false] {
            let file = export_with(&entries()[..size], &log_key(), signed);
            let mut seen = Vec::new();
            let verified = verify(file.as_bytes(), log_key().verifying_key(), None, |entry| {
                seen.push(entry.clone());
                Ok(())
            })
            .unwrap();
            assert_eq!(verified.checkpoint.size, size as u64);
            assert_eq!(verified.checkpoint.root, root(&entries()[..size]));
            assert_eq!(seen, log(size));
            assert_eq!(verified.set_back, None);
        }
    }
    let empty = export(&[]);
    assert_eq!(
        check_bytes(empty.as_bytes(), None).unwrap().checkpoint.size,
        0
    );
}

#[test]
fn l06_the_ledger_verifies_from_every_earlier_checkpoint() {
    let file = export(&entries()[..40]);
    for earlier in 1..=40 {
        let remembered = checkpoint(&entries()[..earlier]);
        let verified = check_bytes(file.as_bytes(), Some(&remembered)).unwrap();
        assert_eq!(verified.continues, Some(earlier as u64));
    }
}

#[test]
fn an_export_is_read_back_as_it_was_written() {
    let file = export(&entries()[..3]);
    let mut reader = ExportReader::new(file.as_bytes()).unwrap();
    assert_eq!(reader.claimed_key(), log_key().verifying_key().to_string());
    for (seq, bytes) in (0..).zip(&entries()[..3]) {
        let Some(Line::Entry(ExportedEntry {
            seq: read,
            entry,
            leaf,
            signature,
        })) = reader.next_line().unwrap()
        else {
            panic!("an entry was expected");
        };
        assert_eq!(
            (read, entry.as_bytes(), leaf),
            (seq, &bytes[..], leaf_hash(bytes))
        );
        assert!(signature.is_some());
    }
    assert_eq!(
        reader.next_line().unwrap(),
        Some(Line::Checkpoint(checkpoint(&entries()[..3])))
    );
    assert_eq!(reader.next_line().unwrap(), None);
}

/// The file format is frozen too; outsiders have verifiers for it.
#[test]
fn the_export_format_is_frozen() {
    let golden = include_str!("golden/export.jsonl");
    assert!(
        export(&entries()[..38]) == golden,
        "tests/ledger/golden/export.jsonl differs from what is written now:\n{}",
        export(&entries()[..38])
    );
}

#[test]
fn nothing_is_exported_under_a_checkpoint_of_something_else() {
    let key = log_key();
    for wrong in [
        checkpoint(&entries()[..2]),
        checkpoint(&entries()[1..4]),
        String::new(),
    ] {
        let mut writer = ExportWriter::signed(Vec::new(), &key).unwrap();
        entries()[..3]
            .iter()
            .for_each(|entry| writer.entry(entry).unwrap());
        assert!(writer.finish(&wrong).is_err());
    }
}

#[test]
fn the_caller_may_object_to_an_entry() {
    let file = export(&entries()[..9]);
    let failure = verify(file.as_bytes(), log_key().verifying_key(), None, |entry| {
        if entry.seq == 6 {
            Err("minted without a grant".into())
        } else {
            Ok(())
        }
    })
    .unwrap_err();
    assert_eq!((failure.first_bad, failure.proven), (6, 6));
    assert_eq!(
        failure.to_string(),
        "the ledger does not verify from entry 6 on: minted without a grant"
    );
}

#[test]
fn a_clock_that_went_back_is_told_but_is_no_forgery() {
    let mut entries = log(4);
    entries[2].time = Time::from_millis(entries[1].time.millis() - 9_500);
    let bytes: Vec<_> = entries.iter().map(|entry| encode(entry).unwrap()).collect();
    let set_back = check_bytes(export(&bytes).as_bytes(), None)
        .unwrap()
        .set_back
        .unwrap();
    assert_eq!((set_back.seq, set_back.by), (2, Seconds(9)));
}

#[test]
fn case_154_one_entry_is_one_line() {
    let file = export(entries());
    assert_eq!(file.lines().count(), SIZE + 2);
    assert_eq!(file.bytes().filter(|byte| *byte < b' ').count(), SIZE + 2);
}

#[test]
fn the_verifier_never_needs_the_secret() {
    let vkey: VerifyingKey = log_key().verifying_key().to_string().parse().unwrap();
    assert!(verify(export(&entries()[..3]).as_bytes(), &vkey, None, |_| Ok(())).is_ok());
}

#[test]
fn an_export_may_leave_open_which_log_it_is_but_not_name_another() {
    let file = export(&entries()[..3]);
    let own = log_key().verifying_key().to_string();
    let other = key_counting_from("log.example/other", 7);
    assert!(check_bytes(file.replacen(&own, "", 1).as_bytes(), None).is_ok());
    let named = file.replacen(&own, &other.verifying_key().to_string(), 1);
    let failure = check_bytes(named.as_bytes(), None).unwrap_err();
    assert!(matches!(failure.problem, Problem::OtherKey(_)));
    // An error's sources follow its message, and say nothing twice.
    assert!(std::error::Error::source(&failure).is_none());
}
