//! Verification: whatever is done to an export, it no longer verifies, and the first bad entry is named.

use std::sync::OnceLock;

use countersign::domain::Event;
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{Failure, Problem, Verified, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::exports::{SIZE, check_bytes, checkpoint, entries, export, export_with, root};
use super::samples::{entry, log};
use super::{ORIGIN, key_counting_from, log_key};

/// Header, one line per entry, checkpoint.
fn lines() -> Vec<String> {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES
        .get_or_init(|| export(entries()).lines().map(Into::into).collect())
        .clone()
}

fn unsigned_lines() -> Vec<String> {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES
        .get_or_init(|| {
            let export = export_with(entries(), &log_key(), false);
            export.lines().map(Into::into).collect()
        })
        .clone()
}

fn check(lines: &[String]) -> Result<Verified, Failure> {
    check_bytes(format!("{}\n", lines.join("\n")).as_bytes(), None)
}

/// Where a file that must not verify is said to be bad; everything before must be proven.
fn first_bad(lines: &[String]) -> u64 {
    let failure = check(lines).unwrap_err();
    assert_eq!(failure.proven, failure.first_bad, "{failure}");
    failure.first_bad
}

/// Changes the line of entry `seq`.
fn edit(lines: &mut [String], seq: usize, change: impl FnOnce(&mut Value)) {
    let mut line: Value = serde_json::from_str(&lines[seq + 1]).unwrap();
    change(&mut line);
    lines[seq + 1] = line.to_string();
}

/// Replaces the text of entry `seq` and makes the line's hash fit, as a careful forger would.
fn forge(lines: &mut [String], seq: usize, text: &str) {
    edit(lines, seq, |line| {
        line["entry"] = json!(text);
        line["leaf"] = json!(leaf_hash(text.as_bytes()).to_string());
    });
}

/// A well-formed entry at `seq` that was never in the log.
fn lie(seq: usize) -> String {
    let event = Event::AgentDisabled {
        agent: "nobody".parse().unwrap(),
    };
    let lie = entry(
        seq as u64,
        if seq == 0 {
            log(1)[0].event.clone()
        } else {
            event
        },
    );
    let text = String::from_utf8(encode(&lie).unwrap()).unwrap();
    if seq == 0 {
        text.replace("10:30:00.000", "10:30:00.001")
    } else {
        text
    }
}

/// Gives the lines from `from` on the numbers of their new places.
fn renumber(lines: &mut [String], from: usize) {
    for seq in from..lines.len() - 2 {
        edit(lines, seq, |line| line["seq"] = json!(seq));
    }
}

/// Every byte of a small export, changed in three ways. Only `sig` may be spoilt without making the file wrong: the
/// checkpoint still proves every entry.
#[test]
fn case_147_no_byte_can_be_changed() {
    let file = export(&entries()[..3]).into_bytes();
    let mut tried = 0;
    for at in 0..file.len() {
        let before = &file[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let in_signature = String::from_utf8_lossy(&file[start..=at]).contains("\"sig\":\"");
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = file.clone();
            changed[at] ^= flip;
            let result = check_bytes(&changed, None);
            tried += 1;
            match (line, result) {
                (1..=3, Ok(_)) => assert!(in_signature, "byte {at} of line {line}"),
                (1..=3, Err(failure)) => {
                    assert_eq!(failure.first_bad, line as u64 - 1, "byte {at}: {failure}")
                }
                (_, result) => assert!(result.is_err(), "byte {at} of line {line}"),
            }
        }
    }
    assert!(tried > 3000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn case_147_a_changed_byte_is_found(seq in 0..SIZE, at in any::<prop::sample::Index>(), flip in 1..=255_u8, signed in any::<bool>()) {
        let mut lines = if signed { lines() } else { unsigned_lines() };
        let mut bytes = entries()[seq].clone();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // As text in JSON, whatever became of it.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut careful = lines.clone();
        edit(&mut lines, seq, |line| line["entry"] = json!(text.clone()));
        prop_assert_eq!(check(&lines).unwrap_err().first_bad, seq as u64);
        if signed {
            forge(&mut careful, seq, &text);
            prop_assert_eq!(first_bad(&careful), seq as u64);
        }
    }

    #[test]
    fn case_147_a_careful_lie_is_found(seq in 0..SIZE, also in 0..SIZE) {
        let mut lines = lines();
        forge(&mut lines, seq, &lie(seq));
        forge(&mut lines, also, &lie(also));
        prop_assert_eq!(first_bad(&lines), seq.min(also) as u64);
    }

    #[test]
    fn case_147_a_removed_entry_is_found(seq in 0..SIZE, how_many in 1..5_usize, careful in any::<bool>()) {
        let mut lines = lines();
        lines.drain(seq + 1..(seq + 1 + how_many).min(SIZE + 1));
        if careful {
            renumber(&mut lines, seq);
        }
        prop_assert_eq!(first_bad(&lines), seq as u64);
    }

    #[test]
    fn case_147_an_added_entry_is_found(seq in 0..=SIZE, careful in any::<bool>()) {
        let mut lines = lines();
        let copied = lines[seq.min(SIZE - 1) + 1].clone();
        lines.insert(seq + 1, copied);
        if careful {
            renumber(&mut lines, seq);
        }
        forge(&mut lines, seq, &lie(seq));
        prop_assert_eq!(first_bad(&lines), seq as u64);
    }

    #[test]
    fn case_147_reordered_entries_are_found(a in 0..SIZE, b in 0..SIZE, careful in any::<bool>()) {
        prop_assume!(a != b);
        let mut lines = lines();
        lines.swap(a + 1, b + 1);
        if careful {
            renumber(&mut lines, 0);
        }
        prop_assert_eq!(first_bad(&lines), a.min(b) as u64);
    }

    #[test]
    fn case_147_a_cut_off_end_is_found(left in 0..SIZE, keep_checkpoint in any::<bool>()) {
        let mut lines = lines();
        let checkpoint = lines.pop().unwrap();
        lines.truncate(left + 1);
        if keep_checkpoint {
            lines.push(checkpoint);
        }
        prop_assert_eq!(first_bad(&lines), left as u64);
    }

    #[test]
    fn case_147_a_file_cut_off_anywhere_is_refused(at in any::<prop::sample::Index>()) {
        let file = format!("{}\n", lines().join("\n"));
        let at = at.index(file.len());
        prop_assert!(check_bytes(&file.as_bytes()[..at], None).is_err());
    }

    /// Without signatures a careful lie cannot be placed, but it never passes and is never blamed on a later entry.
    #[test]
    fn case_147_an_export_without_signatures_still_catches_a_careful_lie(seq in 0..SIZE) {
        let mut lines = unsigned_lines();
        forge(&mut lines, seq, &lie(seq));
        let failure = check(&lines).unwrap_err();
        prop_assert!(matches!(failure.problem, Problem::Root));
        prop_assert!(failure.first_bad <= seq as u64 && failure.proven <= seq as u64);
    }
}

#[test]
fn spoilt_signatures_neither_fail_a_good_file_nor_hide_a_bad_entry() {
    let mut lines = lines();
    for seq in (0..SIZE).filter(|seq| seq % 3 != 1) {
        edit(&mut lines, seq, |line| line["sig"] = json!("AAAA"));
    }
    assert!(check(&lines).is_ok());
    forge(&mut lines, 301, &lie(301));
    // Entry 298 is the last with a signature left, so 299 is the first that nothing proves.
    assert_eq!(first_bad(&lines), 299);
}

#[test]
fn case_148_a_rolled_back_ledger_is_found_against_a_remembered_checkpoint() {
    let yesterday = export(&entries()[..300]);
    let remembered = checkpoint(&entries()[..301]);
    assert!(
        check_bytes(yesterday.as_bytes(), None).is_ok(),
        "it is consistent in itself"
    );
    let failure = check_bytes(yesterday.as_bytes(), Some(&remembered)).unwrap_err();
    assert!(
        matches!(failure.problem, Problem::RolledBack(301)),
        "{failure}"
    );
    assert_eq!((failure.first_bad, failure.proven), (300, 300));
}

#[test]
fn case_148_another_history_is_found_against_a_remembered_checkpoint() {
    let mut forked = entries()[..300].to_vec();
    forked[120] = lie(120).into_bytes();
    let remembered = checkpoint(&entries()[..200]);
    for signed in [true, false] {
        let file = export_with(&forked, &log_key(), signed);
        assert!(
            check_bytes(file.as_bytes(), None).is_ok(),
            "the key itself vouches for it"
        );
        let failure = check_bytes(file.as_bytes(), Some(&remembered)).unwrap_err();
        assert!(matches!(failure.problem, Problem::Forked(200)), "{failure}");
        assert_eq!((failure.first_bad, failure.proven), (0, 0));
        let before_the_fork = checkpoint(&entries()[..120]);
        assert!(check_bytes(file.as_bytes(), Some(&before_the_fork)).is_ok());
    }
}

#[test]
fn an_edit_before_a_remembered_checkpoint_is_still_named_exactly() {
    let mut lines = lines();
    forge(&mut lines, 120, &lie(120));
    let file = format!("{}\n", lines.join("\n"));
    let failure = check_bytes(file.as_bytes(), Some(&checkpoint(&entries()[..200]))).unwrap_err();
    assert_eq!((failure.first_bad, failure.proven), (120, 120), "{failure}");
}

#[test]
fn case_150_only_the_trusted_key_counts() {
    let other = key_counting_from(ORIGIN, 9);
    let file = export_with(&entries()[..3], &other, true);
    let failure = check_bytes(file.as_bytes(), None).unwrap_err();
    assert!(matches!(failure.problem, Problem::OtherKey(_)));
    let renamed = file.replace(
        &other.verifying_key().to_string(),
        &log_key().verifying_key().to_string(),
    );
    assert!(check_bytes(renamed.as_bytes(), None).is_err());
    let remembered = other.sign_checkpoint(1, &root(&entries()[..1]));
    let own = export(&entries()[..3]);
    let failure = check_bytes(own.as_bytes(), Some(&remembered)).unwrap_err();
    assert!(matches!(failure.problem, Problem::Remembered(_)));
}

/// The key vouches for these entries, and they are wrong all the same.
#[test]
fn case_150_a_wrong_entry_with_valid_proofs_is_refused() {
    let good = &entries()[..6];
    let text = str::from_utf8(&good[4]).unwrap();
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("not JSON", b"hello".to_vec()),
        ("null", b"null".to_vec()),
        ("not canonical", format!(" {text}").into_bytes()),
        (
            "unknown member",
            text.replace("\"v\":2", "\"v\":2,\"w\":1").into_bytes(),
        ),
        (
            "unknown version",
            text.replace("\"v\":2", "\"v\":3").into_bytes(),
        ),
        ("another place", good[3].clone()),
        (
            "too long",
            format!("{{\"actor\":\"{}\"}}", "x".repeat(33 * 1024)).into_bytes(),
        ),
        (
            "a second opening",
            encode(&entry(4, log(1)[0].event.clone())).unwrap(),
        ),
    ];
    for (what, bytes) in wrong {
        let mut bad = good.to_vec();
        bad[4] = bytes;
        let failure = check_bytes(export(&bad).as_bytes(), None).unwrap_err();
        assert_eq!(
            (failure.first_bad, failure.proven),
            (4, 4),
            "{what}: {failure}"
        );
    }
    let other_log = Event::LedgerOpened {
        origin: "elsewhere".into(),
    };
    for first in [other_log, log(2)[1].event.clone()] {
        let mut bad = good.to_vec();
        bad[0] = encode(&entry(0, first)).unwrap();
        let failure = check_bytes(export(&bad).as_bytes(), None).unwrap_err();
        assert_eq!(failure.first_bad, 0);
        assert!(matches!(failure.problem, Problem::Opening));
    }
}

#[test]
fn case_150_files_that_are_something_else_are_refused() {
    let file = export(&entries()[..3]);
    let header = file.lines().next().unwrap().to_owned();
    let last = file.lines().last().unwrap().to_owned();
    let long = "x".repeat(1 << 20);
    let wrong = [
        String::new(),
        "\n".into(),
        "{}\n".into(),
        format!("{header}\n"),
        format!("{last}\n"),
        format!("{header}\n{{}}\n"),
        format!("{header}\n[]\n"),
        format!("{header}\n{long}\n"),
        format!("{header}\n{{\"seq\":0,\"checkpoint\":\"\"}}\n"),
        format!("{header}\n{}\n", "[".repeat(100_000)),
        file.replace("ledger\":1", "ledger\":2"),
        file.trim_end().to_owned(),
        format!("{file}\n"),
        format!("{file}{last}\n"),
        file.replace('\n', "\r\n")
            .replace("\r\n{\"checkpoint", "\n{\"checkpoint"),
    ];
    for text in &wrong[..14] {
        assert!(
            check_bytes(text.as_bytes(), None).is_err(),
            "{}",
            text.chars().take(200).collect::<String>()
        );
    }
    // Carriage returns around JSON are blanks: another system's line ends do no harm.
    assert!(check_bytes(wrong[14].as_bytes(), None).is_ok());
}
