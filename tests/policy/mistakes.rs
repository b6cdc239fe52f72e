//! A directory full of mistakes: each kind is found, in one go, with its place and what to write instead.

use countersign::policy::{Bundle, Document, check, render};

use super::{FakeTargets, compile, directory, document, files, refused};

/// Compares with a file of this repository; `BLESS=1` writes it.
pub fn golden(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever blesses a golden file says so here"
    )]
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; look, then run with BLESS=1",
        path.display()
    );
}

#[test]
fn every_mistake_of_a_bad_bundle_is_told_with_its_place_and_its_remedy() {
    let report = check(&document(&directory("tests/policy/bad")), &FakeTargets);
    assert!(report.bundle.is_none() && report.trial.is_none());
    golden("tests/policy/golden/bad.txt", &render(&report));
}

#[test]
fn failed_policy_tests_say_what_decided() {
    let report = check(&document(&directory("tests/policy/unmet")), &FakeTargets);
    assert!(report.bundle.is_none());
    golden("tests/policy/golden/unmet.txt", &render(&report));
}

#[test]
fn case_081_a_half_written_bundle_is_not_loaded() {
    let shop = directory("examples/shop");
    for (path, text) in &shop {
        // Cutting a file anywhere inside its last thing must not leave a loadable rest of that thing.
        let end = text.trim_end().len();
        for back in [1, 2, 5, 9] {
            let mut cut = shop.clone();
            cut.insert(path.clone(), text[..end - back].to_owned());
            let report = check(&document(&cut), &FakeTargets);
            assert!(!report.mistakes.is_empty(), "{path} cut by {back}");
            assert!(report.bundle.is_none());
        }
    }
}

#[test]
fn case_081_not_toml_and_not_cedar_are_not_loaded() {
    let text = refused(&files(&[
        ("catalog/a.toml", "[actions.\"x\"\ntitle = "),
        ("policies/a.cedar", "permit (principal, action, resource"),
        ("catalog/../../etc/passwd.toml", ""),
        ("notes.txt", ""),
    ]));
    assert!(
        text.contains("catalog/a.toml:1:13: this is not TOML"),
        "{text}"
    );
    assert!(
        text.contains("policies/a.cedar:1:36: this is not a policy"),
        "{text}"
    );
    assert!(
        text.contains("catalog/../../etc/passwd.toml: this file is no part of a bundle"),
        "{text}"
    );
    assert!(
        text.contains("notes.txt: this file is no part of a bundle"),
        "{text}"
    );
}

#[test]
fn case_083_names_are_exact_and_never_patterns() {
    let shop = directory("examples/shop");
    for (policy, message) in [
        (
            "forbid (principal, action, resource == NamedAction::\"customers.*\");",
            "there is no action \"customers.*\"",
        ),
        (
            "forbid (principal, action, resource == NamedAction::\"Customers.export\");",
            "there is no action \"Customers.export\"",
        ),
        (
            "forbid (principal == Agent::\"Reporter\", action, resource);",
            "agent name \"Reporter\" is not valid",
        ),
        (
            "forbid (principal == Agent::\"team-x/../admin\", action, resource);",
            "is not valid",
        ),
        (
            "forbid (principal == Person::\"Dev:ana\", action in Action::\"review\", resource);",
            "there is no identity provider `Dev`",
        ),
        (
            "forbid (principal, action, resource in Target::\"Shop\");",
            "there is no target with actions \"Shop\"",
        ),
        (
            "forbid (principal, action == Action::\"request:Customers.export\", resource);",
            "unrecognized action",
        ),
    ] {
        let mut files = shop.clone();
        files.insert("policies/more.cedar".into(), policy.into());
        let text = refused(&files);
        assert!(text.contains(message), "{policy}\n{text}");
    }
}

#[test]
fn case_084_oversized_bundles_are_refused_before_they_are_parsed() {
    let big = " ".repeat(1024 * 1024);
    let text = refused(&files(&[("policies/a.cedar", &format!("{big} "))]));
    assert!(
        text.contains("the file has 1048577 bytes, more than 1048576"),
        "{text}"
    );
    let many: Vec<_> = (0..5)
        .map(|n| (format!("policies/{n}.cedar"), big.clone()))
        .collect();
    let text = refused(&many.into_iter().collect());
    assert!(
        text.contains("bundle: the bundle has 5242880 bytes"),
        "{text}"
    );
}

#[test]
fn a_bundle_is_the_same_from_its_bytes() {
    use countersign::domain::{Digest, Policy};
    let bundle = compile(&directory("examples/shop"));
    assert_eq!(bundle.bundle(), Digest::of(bundle.bytes()));
    let document = Document::from_bytes(bundle.bytes()).unwrap();
    let again = Bundle::compile(&document, &FakeTargets).unwrap();
    assert_eq!(again.bundle(), bundle.bundle());
    let mut spaced = b" ".to_vec();
    spaced.extend_from_slice(bundle.bytes());
    for bytes in [
        b"".as_slice(),
        b"[]",
        b"{\"a\":1}",
        &spaced,
        &bundle.bytes()[1..],
    ] {
        assert!(Document::from_bytes(bytes).is_err());
    }
}
