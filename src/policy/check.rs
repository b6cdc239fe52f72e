//! `check`: everything that can be said of a bundle without putting it in force.

use std::fmt::Write as _;

use super::bundle::{Bundle, TESTS, build};
use super::document::Document;
use super::mistake::{Findings, Mistake};
use super::trial;
use crate::domain::{Policy, Targets};

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// What must be mended; failed policy tests are among them.
    pub mistakes: Vec<Mistake>,
    /// What works but should be looked at.
    pub warnings: Vec<Mistake>,
    /// How the policy tests went; `None` when the bundle could not be compiled, so that none could run.
    pub trial: Option<Trial>,
    /// The bundle, when it can be put in force.
    pub bundle: Option<Bundle>,
}

/// How the policy tests went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trial {
    /// Cases that ran.
    pub ran: usize,
    /// Mistakes that came of them: unreadable cases and unmet expectations.
    pub mistakes: usize,
}

/// Checks a bundle whose targets are `targets` and runs its policy tests.
pub fn check(document: &Document, targets: &dyn Targets) -> Report {
    let mut findings = Findings::default();
    let bundle = build(document, targets, &mut findings);
    let trial = bundle.as_ref().map(|bundle| {
        let before = findings.mistakes.len();
        let text = document.files.get(TESTS);
        let ran = text.map_or(0, |text| {
            trial::run(text, bundle, &document.people, &mut findings)
        });
        Trial {
            ran,
            mistakes: findings.mistakes.len() - before,
        }
    });
    findings.sort();
    Report {
        bundle: bundle.filter(|_| findings.mistakes.is_empty()),
        mistakes: findings.mistakes,
        warnings: findings.warnings,
        trial,
    }
}

/// The report for people: mistakes, warnings, and a last line that sums up.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for mistake in &report.mistakes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mistake}\n");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}\n");
    }
    if let Some(bundle) = &report.bundle {
        let _ = writeln!(
            text,
            "bundle {}: {}, {}, {}",
            bundle.bundle().short(),
            count(bundle.actions().len(), "action"),
            count(bundle.agents().len(), "agent"),
            count(bundle.policy_count(), "policy"),
        );
    }
    match report.trial {
        None => {
            let _ = writeln!(text, "policy tests did not run: mend the mistakes first");
        }
        Some(trial) => {
            let _ = writeln!(text, "{} ran", count(trial.ran, "policy test"));
        }
    }
    let _ = writeln!(
        text,
        "{}, {}",
        count(report.mistakes.len(), "mistake"),
        count(report.warnings.len(), "warning"),
    );
    text
}

fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}
