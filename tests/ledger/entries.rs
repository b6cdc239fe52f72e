//! Canonical bytes: golden examples of the frozen format, strict reading, the size limit, the columns.

use std::collections::BTreeSet;

use countersign::domain::{Actor, Entry, Event};
use countersign::ledger::{EntryError, decode, encode, index};
use serde_json::{Value, json};

use super::kinds::{KINDS, ordinal};
use super::samples::{self, entry, every_event};

const GOLDEN: &str = include_str!("golden/entries.jsonl");

fn golden_entries() -> Vec<Entry> {
    samples::log(every_event().len())
}

#[test]
fn there_is_an_example_of_every_kind() {
    let seen: BTreeSet<usize> = every_event().iter().map(ordinal).collect();
    assert_eq!(seen, (0..KINDS).collect());
}

/// The log format is frozen: these bytes were written once and must always be written and read the same.
/// A new kind is appended to the file; a line that is there never changes.
#[test]
fn the_log_format_is_frozen() {
    let mut written = String::new();
    for entry in golden_entries() {
        written.push_str(str::from_utf8(&encode(&entry).unwrap()).unwrap());
        written.push('\n');
    }
    assert!(
        written == GOLDEN,
        "tests/ledger/golden/entries.jsonl differs from what is written now:\n{written}"
    );
    for (line, entry) in GOLDEN.lines().zip(golden_entries()) {
        assert_eq!(decode(line.as_bytes()).unwrap(), entry);
    }
}

#[test]
fn an_entry_has_one_spelling() {
    let line = GOLDEN.lines().next().unwrap();
    let respelt = [
        line.replace("\":", "\": "),
        format!("{line}\n"),
        format!(" {line}"),
        line.replace("broker.example.com", "broker\\u002eexample.com"),
        line.replace("\"seq\":0", "\"seq\":0.0"),
        line.replace("\"seq\":0", "\"seq\":-0"),
        line.replace("{\"actor\"", "{\"seq\":0,\"actor\""),
        line.replace("\"v\":2", "\"v\":2,\"v\":2"),
        line.replace(".000Z", "Z"),
        line.replace("Z\"", "+00:00\""),
    ];
    assert!(decode(line.as_bytes()).is_ok());
    for text in respelt {
        assert_ne!(text, line);
        assert!(decode(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn unknown_members_kinds_and_versions_are_refused() {
    let line = GOLDEN.lines().next().unwrap();
    let foreign = [
        line.replace("\"v\":2", "\"v\":2,\"w\":1"),
        line.replace("\"origin\"", "\"note\":\"\",\"origin\""),
        line.replace("ledger.opened", "ledger.closed"),
        line.replace("\"kind\":\"broker\"", "\"kind\":\"broker\",\"name\":\"x\""),
    ];
    for text in foreign {
        assert_ne!(text, line);
        assert!(decode(text.as_bytes()).is_err(), "{text}");
    }
    let newer = line.replace("\"v\":2", "\"v\":3");
    assert!(matches!(
        decode(newer.as_bytes()),
        Err(EntryError::Version(3))
    ));
    let first = r#"{"actor":{"kind":"agent","name":"reporter"},"event":{"kind":"verdict.given"},"seq":5,"time":"2026-11-22T10:30:01.250Z","v":1}"#;
    let error = decode(first.as_bytes()).unwrap_err();
    assert!(matches!(error, EntryError::Version(1)));
    assert!(error.to_string().contains("begin a new ledger"), "{error}");
    for bytes in [&b""[..], b"null", b"[]", b"\xff", b"{}"] {
        assert!(decode(bytes).is_err());
    }
}

fn with_report(report: Value) -> Entry {
    let mut ending = every_event()
        .into_iter()
        .find(|event| matches!(event, Event::LeaseEnding { .. }))
        .unwrap();
    if let Event::LeaseEnding { report: old, .. } = &mut ending {
        *old = report.as_object().unwrap().clone();
    }
    entry(5, ending)
}

#[test]
fn an_entry_is_at_most_32_kib() {
    let empty = encode(&with_report(json!({"text": ""}))).unwrap().len();
    let room = 32 * 1024 - empty;
    let full = encode(&with_report(json!({"text": "x".repeat(room)}))).unwrap();
    assert_eq!(full.len(), 32 * 1024);
    let error = encode(&with_report(json!({"text": "x".repeat(room + 1)}))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an entry of 32769 bytes exceeds the limit of 32768 bytes; shorten its parameters, scope or report"
    );
}

#[test]
fn numbers_are_written_exactly_or_not_at_all() {
    for exact in [
        json!(9_007_199_254_740_991_u64),
        json!(-9_007_199_254_740_991_i64),
        json!(0.1),
        json!(1.0),
        json!(1e300),
    ] {
        let bytes = encode(&with_report(json!({"n": exact}))).unwrap();
        assert!(decode(&bytes).is_ok());
    }
    for inexact in [
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX),
        json!(i64::MIN),
    ] {
        let error = encode(&with_report(json!({"deep": [{"n": inexact}]}))).unwrap_err();
        assert!(matches!(error, EntryError::Inexact(_)), "{error}");
    }
}

#[test]
fn nesting_that_cannot_be_read_back_is_not_written() {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    assert!(encode(&with_report(json!({"deep": deep}))).is_err());
}

#[test]
fn case_154_one_event_is_one_record_whatever_it_says() {
    let nasty = "a\r\n{\"seq\":9}\u{0}\u{1b}[2J\u{2028}\u{85}\"},{\"v\":1\\";
    let written = with_report(json!({nasty: nasty}));
    let bytes = encode(&written).unwrap();
    assert!(bytes.iter().all(|byte| *byte >= b' '));
    assert_eq!(decode(&bytes).unwrap(), written);
}

#[test]
fn entries_are_found_by_what_they_are_about() {
    let found = |seq: usize| index(&golden_entries()[seq]);
    let submitted = found(6);
    assert_eq!(submitted.kind, "request.submitted");
    assert_eq!(submitted.agent.as_deref(), Some("reporter"));
    assert_eq!(submitted.action.as_deref(), Some("orders.report"));
    assert!(submitted.request.is_some() && submitted.lease.is_none());
    assert_eq!(found(0).actor, "broker");
    assert_eq!(found(1).actor, "operator");
    assert_eq!(found(2).actor, "agent:reporter");
    assert_eq!(found(3).actor, "person:grace https://id.example.com");
    let outcomes: Vec<_> = golden_entries()
        .iter()
        .filter_map(|entry| index(entry).outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            "review",
            "allow",
            "deny",
            "approve",
            "deny",
            "self_approval",
            "withdrawn",
            "target_unreachable",
            "failed",
            "finished",
            "mint_unknown",
            "target_unreachable",
            "cleanup_blocked",
            "completed",
            "cleanup_blocked",
            "cleanup_blocked",
            "target_unavailable",
            "target_unavailable",
        ]
    );
    for (entry, seq) in golden_entries().iter().zip(0..) {
        let index = index(entry);
        assert_eq!(
            (index.kind.as_str(), index.time),
            (entry.event.kind(), samples::at(seq * 250))
        );
        if matches!(entry.actor, Actor::Agent { .. }) {
            assert!(index.agent.is_some());
        }
    }
}
