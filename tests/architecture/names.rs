//! Every law, every abuse case and every finding has a test named after it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::source::{code, files_below, functions, read};

/// The laws of the design.
const LAWS: RangeInclusive<u32> = 1..=14;
/// What was found at running targets.
const TARGET_FINDINGS: RangeInclusive<u32> = 1..=25;
/// The abuse cases this build answers: sign-in and pages, agents, the AWS and PostgreSQL issuers.
const CASES: [RangeInclusive<u32>; 4] = [31..=49, 58..=79, 85..=97, 98..=120];
/// Cases of these ranges that have nothing to test yet, and why.
const NOT_HERE: &[(u32, &str)] = &[(
    45,
    "no device or command-line sign-in exists: people sign in on the pages only",
)];

/// Names of all functions marked as tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["src", "tests", "sdk"]
        .into_iter()
        .flat_map(|dir| files_below(dir, &[".rs"]))
    {
        let code = code(&read(&file));
        for (name, start) in functions(&code) {
            if is_test(&code, start) {
                names.insert(name);
            }
        }
    }
    names
}

/// Whether the function at `start` has `test` among its attributes, or stands in a `proptest!`, where attributes do too.
fn is_test(code: &str, start: usize) -> bool {
    let before = code[..start]
        .trim_end()
        .trim_end_matches("async")
        .trim_end();
    let item = before
        .rfind([';', '}', '{'])
        .map_or(before, |at| &before[at + 1..]);
    item.contains("test]") || item.contains("test(")
}

/// The labels in a name: `l03_case_122_…` has `l03` and `case_122`, `case_065_and_070_…` has two cases.
fn labels(name: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut in_case = false;
    for word in name.split('_') {
        let number = word.parse::<u32>().is_ok();
        if in_case && number {
            labels.push(format!("case_{word}"));
        }
        if word.len() == 3 && word.starts_with('l') && word[1..].parse::<u32>().is_ok() {
            labels.push(word.to_owned());
        }
        in_case = word == "case" || in_case && (number || word == "and");
    }
    labels
}

fn all_labels() -> BTreeSet<String> {
    tests().iter().flat_map(|name| labels(name)).collect()
}

#[test]
fn every_law_has_a_test() {
    let labels = all_labels();
    let missing: Vec<_> = LAWS
        .map(|law| format!("l{law:02}"))
        .filter(|label| !labels.contains(label))
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

#[test]
fn every_case_has_a_test() {
    let labels = all_labels();
    let mut wrong = Vec::new();
    for case in CASES.into_iter().flatten() {
        let label = format!("case_{case:03}");
        let excused = NOT_HERE.iter().any(|(number, _)| *number == case);
        match (labels.contains(&label), excused) {
            (false, false) => wrong.push(format!("{label} has no test")),
            (true, true) => wrong.push(format!("{label} has a test: take it off the list")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_finding_at_a_target_has_a_test() {
    let tests = tests();
    let missing: Vec<_> = TARGET_FINDINGS
        .map(|finding| format!("finding_t{finding:02}_"))
        .filter(|label| !tests.iter().any(|test| test.contains(label)))
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

#[test]
fn labels_are_found_in_names() {
    assert_eq!(labels("l03_case_122_a_crash_at_2"), ["l03", "case_122"]);
    assert_eq!(labels("case_065_and_070_apart"), ["case_065", "case_070"]);
    assert!(labels("all_in_case_of_doubt_and_120").is_empty());
}
