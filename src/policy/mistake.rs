//! Mistakes: where in which file, what is wrong, and what to write instead.

use std::fmt;

/// One mistake in a bundle.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mistake {
    /// Path of the file, relative to the bundle.
    pub file: String,
    /// Line, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if let Some(column) = self.column {
            write!(f, "{column}:")?;
        }
        write!(f, " {}\n  write instead: {}", self.message, self.instead)
    }
}

/// Collects mistakes and warnings about one file at a time.
#[derive(Default, Debug)]
pub(super) struct Findings {
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<Mistake>,
}

/// A file of the bundle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    fn finding(&self, offset: usize, message: String, instead: String) -> Mistake {
        let (line, column) = self.place(offset);
        Mistake {
            file: self.file.into(),
            line,
            column: Some(column),
            message,
            instead,
        }
    }

    /// Line and column, from 1, of a byte offset.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

impl Findings {
    /// A mistake at a byte offset of `source`.
    pub(super) fn mistake(
        &mut self,
        source: Source<'_>,
        offset: usize,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let finding = source.finding(offset, message.into(), instead.into());
        self.mistakes.push(finding);
    }

    /// A warning at a byte offset of `source`.
    pub(super) fn warning(
        &mut self,
        source: Source<'_>,
        offset: usize,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let finding = source.finding(offset, message.into(), instead.into());
        self.warnings.push(finding);
    }

    /// A mistake about a file as a whole.
    pub(super) fn mistake_in(
        &mut self,
        file: &str,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.mistakes.push(Mistake {
            file: file.into(),
            line: 0,
            column: None,
            message: message.into(),
            instead: instead.into(),
        });
    }

    /// Sorted by place, so that people can go through a file from top to bottom.
    pub(super) fn sort(&mut self) {
        self.mistakes.sort();
        self.mistakes.dedup();
        self.warnings.sort();
        self.warnings.dedup();
    }
}

/// Of `known`, the one closest to `word`, when it is close enough to be what was meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect();
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((right, above_left), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let before = next.last().copied().unwrap_or(i + 1);
            let changed = above_left + usize::from(left != *right);
            next.push(changed.min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_reads_as_editors_expect() {
        let source = Source {
            file: "catalog/shop.toml",
            text: "a = 1\nß = 2\n",
        };
        let mut findings = Findings::default();
        findings.mistake(source, 9, "what is wrong", "what is right");
        assert_eq!(
            findings.mistakes[0].to_string(),
            "catalog/shop.toml:2:3: what is wrong\n  write instead: what is right"
        );
        assert_eq!(source.place(7), (2, 1), "inside a character");
        assert_eq!(source.place(999), (3, 1), "past the end");
    }

    #[test]
    fn the_closest_key_is_close() {
        assert_eq!(closest("targt", ["title", "target", "ttl"]), Some("target"));
        assert_eq!(closest("zzzzzz", ["title", "target", "ttl"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
