//! The code in `docs/catalog.md` and `docs/policy.md` is one bundle, and it checks.

use std::collections::BTreeMap;

use countersign::policy::{check, render};

use super::{FakeTargets, document};

/// The code blocks of a page, by language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .map(|block| block.split_once("```").unwrap().0.to_owned())
        .collect()
}

#[test]
fn the_examples_of_the_documentation_check() {
    let catalog = (0..).zip(blocks("catalog.md", "toml"));
    let mut files: BTreeMap<_, _> = catalog
        .map(|(n, text): (usize, _)| (format!("catalog/{n}.toml"), text))
        .collect();
    assert_eq!(files.len(), 3);
    files.insert(
        "policies/a.cedar".into(),
        blocks("policy.md", "cedar").concat(),
    );
    files.insert(
        "policies/tests.toml".into(),
        blocks("policy.md", "toml").concat(),
    );
    let report = check(&document(&files), &FakeTargets);
    let text = render(&report);
    assert!(
        report.mistakes.is_empty() && report.warnings.is_empty(),
        "{text}"
    );
    assert_eq!(report.trial.map(|trial| trial.ran), Some(2), "{text}");
}
