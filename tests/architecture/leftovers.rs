//! What must not be left behind in anything that is committed.

use super::source::{code, files_below, read};

/// Tests that may sleep, and why.
const SLEEPERS: &[(&str, &str)] = &[
    (
        "tests/e2e/mod.rs",
        "asks again until a condition holds, with a deadline",
    ),
    (
        "tests/api/slow.rs",
        "tokio's time, which stands still and jumps",
    ),
    (
        "tests/e2e/aws/laws.rs",
        "waits for the second a lease ends at, and asks again until then",
    ),
    (
        "tests/e2e/aws/many.rs",
        "waits for the second a lease ends at",
    ),
    ("tests/support/aws/meddler.rs", "makes AWS slow"),
    (
        "tests/issuers/orders.rs",
        "asks again until a condition holds, with a deadline",
    ),
    (
        "tests/simulation/clocks.rs",
        "tokio's time, which stands still and jumps",
    ),
    (
        "tests/simulation/keys.rs",
        "tokio's time, which stands still and jumps",
    ),
    (
        "tests/simulation/mod.rs",
        "tokio's time, which stands still and jumps",
    ),
    (
        "tests/simulation/doctored.rs",
        "tokio's time, which stands still and jumps",
    ),
    (
        "tests/simulation/duties.rs",
        "tokio's time, which stands still and jumps",
    ),
    (
        "tests/simulation/scenes.rs",
        "tokio's time, which stands still and jumps",
    ),
    (
        "tests/support/target.rs",
        "tokio's time, which stands still and jumps",
    ),
];

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Lines of `text` that contain `word`.
fn lines_with<'a>(
    file: &'a str,
    text: &'a str,
    word: &'a str,
) -> impl Iterator<Item = String> + 'a {
    text.lines()
        .enumerate()
        .filter(move |(_, line)| line.contains(word))
        .map(move |(at, _)| format!("{file}:{}: {word}", at + 1))
}

#[test]
fn nothing_is_put_off() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X "),
    ];
    let mut wrong = Vec::new();
    for file in files_below(
        "",
        &[
            ".rs", ".md", ".toml", ".sql", ".cedar", ".py", ".sh", ".js", ".mjs", ".css",
        ],
    ) {
        let text = read(&file);
        wrong.extend(words.iter().flat_map(|word| lines_with(&file, &text, word)));
    }
    report(&wrong);
}

#[test]
fn no_test_is_switched_off_and_nothing_is_unfinished() {
    let macros = [
        "dbg!(",
        "todo!(",
        "unimplemented!(",
        "#[ignore",
        "#[should_panic",
    ];
    let mut wrong = Vec::new();
    for file in files_below("", &[".rs"]) {
        let text = code(&read(&file));
        wrong.extend(
            macros
                .iter()
                .flat_map(|word| lines_with(&file, &text, word)),
        );
        wrong.extend(lines_with(&file, &text, "#[allow("));
    }
    report(&wrong);
}

#[test]
fn no_test_waits_for_time_to_pass() {
    let mut wrong = Vec::new();
    for file in files_below("tests", &[".rs"]) {
        let sleeps = SLEEPERS.iter().any(|(sleeper, _)| *sleeper == file);
        let text = code(&read(&file));
        let found: Vec<_> = lines_with(&file, &text, "sleep(").collect();
        if sleeps && found.is_empty() {
            wrong.push(format!(
                "{file} does not sleep any more: take it off the list"
            ));
        } else if !sleeps {
            wrong.extend(found);
        }
    }
    report(&wrong);
}

#[test]
fn no_path_of_one_machine_is_named() {
    let paths = [
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/ro", "ot/"),
    ];
    let mut wrong = Vec::new();
    for file in files_below("", &[""]) {
        if file.ends_with(".png") || file == "Cargo.lock" {
            continue;
        }
        let text = read(&file);
        wrong.extend(paths.iter().flat_map(|path| lines_with(&file, &text, path)));
    }
    report(&wrong);
}
