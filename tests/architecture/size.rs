//! Files and functions stay small enough to read. What was once too big may only shrink.

use std::collections::BTreeMap;

use super::source::{code, files_below, read, root};

const LONGEST_FILE: usize = 500;
/// How far below its number in the list a file may be before the number has to follow.
const SLACK: usize = 25;

/// File to the lines it is allowed, from `ratchet.txt`.
fn exceptions() -> BTreeMap<String, usize> {
    read("tests/architecture/ratchet.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (size, file) = line.split_once(' ').expect("LINES FILE");
            (file.to_owned(), size.parse().expect("LINES is a number"))
        })
        .collect()
}

fn rust_files() -> Vec<String> {
    ["src", "tests", "sdk/rust", "benches"]
        .into_iter()
        .filter(|dir| root().join(dir).exists())
        .flat_map(|dir| files_below(dir, &[".rs"]))
        .collect()
}

#[test]
fn files_stay_small() {
    let mut allowed = exceptions();
    let mut wrong = Vec::new();
    for file in rust_files() {
        let lines = read(&file).lines().count();
        match allowed.remove(&file) {
            None if lines > LONGEST_FILE => wrong.push(format!(
                "{file} has {lines} lines: split it by what its parts are about"
            )),
            Some(limit) if lines > limit => {
                wrong.push(format!(
                    "{file} grew from {limit} to {lines} lines: split it"
                ));
            }
            Some(_) if lines <= LONGEST_FILE => {
                wrong.push(format!("{file} is small now: take it out of ratchet.txt"));
            }
            Some(limit) if lines + SLACK < limit => wrong.push(format!(
                "{file} shrank to {lines} lines: write that into ratchet.txt"
            )),
            _ => {}
        }
    }
    for file in allowed.keys() {
        wrong.push(format!("{file} is gone: take it out of ratchet.txt"));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Clippy counts functions; this sees to it that it is asked to, everywhere.
#[test]
fn functions_stay_small() {
    assert!(read("clippy.toml").contains("too-many-lines-threshold = 70"));
    for manifest in ["Cargo.toml", "sdk/rust/Cargo.toml"] {
        let manifest: toml::Table = read(manifest).parse().unwrap();
        assert_eq!(
            manifest["lints"]["clippy"]["too_many_lines"].as_str(),
            Some("warn")
        );
    }
    for file in rust_files() {
        let lint = concat!("too_many", "_lines");
        assert!(
            !code(&read(&file)).contains(lint),
            "{file} switches {lint} off: split the function instead"
        );
    }
}
