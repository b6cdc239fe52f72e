//! A table of what was measured, the same for every bench: `scripts/bench` makes one of them all.

/// One line of the table: what, measured, against, ratio and bar.
pub fn row(what: &str, measured: &str, against: &str, verdict: &str) {
    println!("| {what} | {measured} | {against} | {verdict} |");
}

/// The head of a table.
pub fn table(title: &str) {
    println!("\n### {title}\n\n| what | measured | against | ratio and bar |\n|---|---|---|---|");
}
