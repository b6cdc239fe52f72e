//! Where things are printed: data to stdout, talk to stderr. Everything passes through [`super::text`].

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::exit::Failure;
use super::text::{plain, plain_json};

/// How a command talks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Data as JSON, one object or one a line.
    pub(crate) json: bool,
    /// No talk beside errors.
    pub(crate) quiet: bool,
}

impl Output {
    /// One JSON object on stdout.
    pub(crate) fn object<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let json = serde_json::to_string(value).map_err(std::io::Error::other)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", plain_json(&json))?;
        Ok(out.flush()?)
    }

    /// Data for people on stdout; every line is already safe.
    pub(crate) fn lines(self, lines: &[String]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }

    /// Facts as aligned `name  value` lines on stdout. Values may be anything.
    pub(crate) fn facts(self, facts: &[(&str, String)]) -> Result<(), Failure> {
        self.lines(&align(facts))
    }

    /// Talk on stderr, unless quiet. A terminal that is gone is no reason to stop.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "countersign: {}", plain(text));
        }
    }

    /// A warning on stderr, even when quiet.
    pub(crate) fn warn(self, text: &str) {
        let _ = writeln!(std::io::stderr(), "countersign: {}", plain(text));
    }

    /// Shows progress on the same line of a terminal.
    pub(crate) fn progress(self, text: &str, previous: usize) -> usize {
        let text = plain(text);
        let width = text.chars().count();
        let _ = write!(
            std::io::stderr(),
            "\r{text}{}",
            " ".repeat(previous.saturating_sub(width))
        );
        let _ = std::io::stderr().flush();
        width
    }

    /// Clears what `progress` wrote.
    pub(crate) fn clear_progress(self, width: usize) {
        if width > 0 {
            let _ = write!(std::io::stderr(), "\r{}\r", " ".repeat(width));
        }
    }

    /// Whether progress can be shown in place.
    pub(crate) fn is_live(self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// A failure: JSON on stdout, or words on stderr. `exec` leaves stdout to its command.
    pub(crate) fn failure(self, failure: &Failure, stdout_is_ours: bool) {
        if self.json {
            let json = plain_json(&failure.to_json().to_string());
            if stdout_is_ours {
                let _ = writeln!(std::io::stdout(), "{json}");
            } else {
                let _ = writeln!(std::io::stderr(), "{json}");
            }
            return;
        }
        let mut err = std::io::stderr().lock();
        // Further lines, such as a configuration's mistakes, stand below, where none can pass for one of ours.
        let mut lines = failure.what.trim_end().lines();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(
            err,
            "countersign: {} [{}]",
            plain(first),
            plain(&failure.code)
        );
        for line in lines {
            let _ = writeln!(err, "    {}", plain(line));
        }
        for mistake in &failure.mistakes {
            let _ = writeln!(
                err,
                "  {}: {}",
                plain(&mistake.pointer),
                plain(&mistake.detail)
            );
        }
        if let Some(next) = failure.next.as_deref().filter(|next| !next.is_empty()) {
            let _ = writeln!(err, "  next: {}", plain(next));
        }
        if let Some(id) = &failure.call_id {
            let _ = writeln!(err, "  the broker's log has it as {}", plain(id));
        }
    }
}

/// Facts as aligned lines, made safe.
pub(crate) fn align(facts: &[(&str, String)]) -> Vec<String> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts
        .iter()
        .map(|(name, value)| {
            format!("{name:width$}  {}", plain(value))
                .trim_end()
                .to_owned()
        })
        .collect()
}

/// Rows as aligned columns, made safe. The first row is the heading.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
