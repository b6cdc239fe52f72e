//! Who imports whom: the table of `src/lib.rs`, enforced.

use std::collections::BTreeSet;

use super::source::{code_without_tests, files_below, read};

/// The adapters of the ports: only `wiring` names them.
const STORE_ADAPTERS: [&str; 6] = [
    "MemoryStore",
    "PostgresStore",
    "SqliteStore",
    "memory",
    "postgres",
    "sqlite",
];
const ISSUER_ADAPTERS: [&str; 3] = ["aws_sts", "mariadb", "postgres"];

/// A module, what it may import whole, and of which modules it may import only the port, not the adapters.
type Rule = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const RULES: &[Rule] = &[
    ("domain", &[], &[]),
    ("policy", &["domain"], &[]),
    ("ledger", &["domain"], &[]),
    ("config", &["domain"], &[]),
    ("system", &["domain"], &[]),
    ("store", &["domain", "ledger"], &[]),
    ("issuers", &["domain", "config", "system"], &[]),
    ("identity", &["domain", "config", "system"], &["store"]),
    (
        "broker",
        &["domain", "ledger", "system"],
        &["store", "issuers"],
    ),
    ("http", &["domain", "broker", "identity", "system"], &[]),
    ("web", &["domain", "broker", "identity"], &[]),
    ("cli", &["wiring", "system"], &[]),
    ("wiring", EVERYTHING, &[]),
    ("main", EVERYTHING, &[]),
];
const EVERYTHING: &[&str] = &[
    "domain", "policy", "ledger", "config", "system", "store", "issuers", "identity", "broker",
    "http", "web", "cli", "wiring",
];

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in files_below("src", &[".rs"]) {
        let module = top_module(&file);
        if module == "lib" {
            continue;
        }
        let (_, whole, ports) = RULES
            .iter()
            .find(|(name, ..)| *name == module)
            .unwrap_or_else(|| panic!("{file}: module {module} is in no row of the import table"));
        for path in imports(&file, &code_without_tests(&read(&file))) {
            let first = path.first().map_or("", String::as_str);
            let second = path.get(1).map_or("", String::as_str);
            let adapters: &[&str] = if first == "store" {
                &STORE_ADAPTERS
            } else {
                &ISSUER_ADAPTERS
            };
            let port = ports.contains(&first) && !adapters.contains(&second) && second != "*";
            if first != module && !whole.contains(&first) && !port {
                wrong.push(format!("{file} imports crate::{}", path.join("::")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the import table of src/lib.rs does not allow:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_map_says_what_the_rules_say() {
    let map = read("src/lib.rs");
    for (module, whole, ports) in RULES.iter().filter(|(name, ..)| *name != "main") {
        let row = map
            .lines()
            .find(|line| line.starts_with(&format!("//! | [`{module}`] |")))
            .unwrap_or_else(|| panic!("src/lib.rs has no row for {module}"));
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let said: BTreeSet<&str> = last
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| EVERYTHING.contains(name))
            .collect();
        let ruled: BTreeSet<&str> = if *whole == EVERYTHING {
            assert!(last.contains("anything"), "{row}");
            BTreeSet::new()
        } else {
            whole.iter().chain(*ports).copied().collect()
        };
        assert_eq!(said, ruled, "the row of {module} in src/lib.rs: {row}");
    }
}

/// `src/http/api/submit.rs` is in `http`.
fn top_module(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Every path into this crate, from its root: `crate::…`, and `super::…` where it leads out of the module.
fn imports(file: &str, code: &str) -> Vec<Vec<String>> {
    let inside = file.strip_prefix("src/").unwrap().trim_end_matches(".rs");
    let here = inside.trim_end_matches("/mod").split('/').count();
    let mut paths = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        if !continues_a_path(code, at) {
            expand(&code[at + word.len()..], Vec::new(), &mut paths);
        }
    }
    let climb = "super::".repeat(here);
    for (at, _) in code.match_indices(&climb) {
        if !continues_a_path(code, at) {
            expand(&code[at + climb.len()..], Vec::new(), &mut paths);
        }
    }
    paths
}

fn continues_a_path(code: &str, at: usize) -> bool {
    code[..at]
        .chars()
        .next_back()
        .is_some_and(|letter| letter.is_alphanumeric() || matches!(letter, '_' | ':' | '$'))
}

/// Follows one path, into its braces; returns what is left.
fn expand<'a>(text: &'a str, mut path: Vec<String>, paths: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = text.trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            rest = expand(rest, path.clone(), paths).trim_start();
            if let Some((comma, after)) = rest.split_at_checked(1)
                && comma == ","
            {
                rest = after.trim_start();
            } else if !rest.starts_with('}') {
                break;
            }
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let length = rest
        .find(|letter: char| !(letter.is_alphanumeric() || matches!(letter, '_' | '*')))
        .unwrap_or(rest.len());
    let (word, after) = rest.split_at(length);
    path.push(word.to_owned());
    if let Some(next) = after.strip_prefix("::") {
        return expand(next, path, paths);
    }
    paths.push(path);
    let alias = after.trim_start();
    alias.strip_prefix("as ").map_or(after, |name| {
        name.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_')
    })
}

#[test]
fn braces_aliases_and_climbing_are_seen() {
    let code = "use crate::{a::{B, c as D}, e}; fn f() { crate::g::h() } use super::super::i::J; use super::k;";
    let found = imports("src/x/y.rs", code);
    let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::B", "a::c", "e", "g::h", "i::J"]);
}
