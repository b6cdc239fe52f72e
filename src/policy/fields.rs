//! Reads TOML tables field by field, keeping places, so that every mistake of a file is found in one go.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration;
use super::mistake::{Findings, Source, closest};
use crate::domain::Seconds;

type Key<'i> = Spanned<Cow<'i, str>>;
type Field<'i> = Spanned<DeValue<'i>>;

/// Whole numbers beyond this are not exact in canonical JSON, so a digest could not tell them apart.
pub(super) const EXACT: i64 = 9_007_199_254_740_991;

/// One table being read. Every key asked for counts as known; [`Fields::finish`] refuses the others.
pub(super) struct Fields<'a, 'i> {
    table: &'a DeTable<'i>,
    /// Where the table starts, for what is missing in it.
    pub(super) offset: usize,
    pub(super) source: Source<'a>,
    /// What it is, for messages: `action customers.export`.
    what: String,
    known: BTreeSet<&'static str>,
}

/// Parses a file; `None`, and mistakes, when it is not TOML.
pub(super) fn parse<'i>(source: Source<'i>, findings: &mut Findings) -> Option<DeTable<'i>> {
    let (table, errors) = DeTable::parse_recoverable(source.text);
    let sound = errors.is_empty();
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        findings.mistake(
            source,
            offset,
            format!("this is not TOML: {}", error.message()),
            "valid TOML (https://toml.io)",
        );
    }
    sound.then(|| table.into_inner())
}

impl<'a, 'i> Fields<'a, 'i> {
    pub(super) fn new(
        source: Source<'a>,
        offset: usize,
        what: impl Into<String>,
        table: &'a DeTable<'i>,
    ) -> Self {
        Self {
            table,
            offset,
            source,
            what: what.into(),
            known: BTreeSet::new(),
        }
    }

    /// The raw value of a key.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Field<'i>> {
        self.known.insert(key);
        self.table.get(key)
    }

    /// Where the value of `key` is, or the table when it is absent.
    pub(super) fn at(&self, key: &str) -> usize {
        self.table
            .get(key)
            .map_or(self.offset, |value| value.span().start)
    }

    /// Refuses all keys that nobody asked for.
    pub(super) fn finish(self, findings: &mut Findings) {
        for key in self.table.keys() {
            if self.known.contains(key.get_ref().as_ref()) {
                continue;
            }
            let all = || self.known.iter().copied().collect::<Vec<_>>().join(", ");
            let instead = closest(key.get_ref(), self.known.iter().copied())
                .map_or_else(|| format!("one of {}", all()), str::to_owned);
            findings.mistake(
                self.source,
                key.span().start,
                format!("{} has no key `{}`", self.what, show(key.get_ref())),
                instead,
            );
        }
    }

    fn missing(&self, key: &str, example: &str, findings: &mut Findings) {
        let message = format!("{} has no `{key}`", self.what);
        findings.mistake(
            self.source,
            self.offset,
            message,
            format!("{key} = {example}"),
        );
    }

    fn wrong(&self, key: &str, value: &Field<'_>, example: &str, findings: &mut Findings) {
        let message = format!(
            "`{key}` of {} is {}, which does not fit",
            self.what,
            article(value.get_ref().type_str())
        );
        findings.mistake(
            self.source,
            value.span().start,
            message,
            format!("{key} = {example}"),
        );
    }

    /// A text that must be there.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        example: &str,
        findings: &mut Findings,
    ) -> Option<&'a str> {
        if self.get(key).is_none() {
            self.missing(key, example, findings);
        }
        self.optional_text(key, example, findings)
    }

    /// A text that may be there. Empty text and control characters are mistakes.
    pub(super) fn optional_text(
        &mut self,
        key: &'static str,
        example: &str,
        findings: &mut Findings,
    ) -> Option<&'a str> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text)
                if !text.trim().is_empty()
                    && !text.chars().any(|c| c.is_control() && c != '\n') =>
            {
                Some(text)
            }
            Some(_) => {
                let message = format!(
                    "`{key}` of {} is empty or has control characters",
                    self.what
                );
                findings.mistake(
                    self.source,
                    value.span().start,
                    message,
                    format!("{key} = {example}"),
                );
                None
            }
            None => {
                self.wrong(key, value, example, findings);
                None
            }
        }
    }

    /// A text that parses as `T`, and must be there.
    pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &'static str,
        example: &str,
        findings: &mut Findings,
    ) -> Option<T> {
        let text = self.text(key, example, findings)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                findings.mistake(
                    self.source,
                    self.at(key),
                    error.to_string(),
                    format!("{key} = {example}"),
                );
                None
            }
        }
    }

    /// A duration, or `default` when the key is absent; without a default it must be there.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Option<Seconds>,
        findings: &mut Findings,
    ) -> Option<Seconds> {
        let example = "\"10m\"";
        let Some(value) = self.get(key) else {
            if default.is_none() {
                self.missing(key, example, findings);
            }
            return default;
        };
        let text = value.get_ref().as_str();
        let parsed = text.and_then(duration::parse);
        if parsed.is_none() {
            let message = format!(
                "`{key}` of {} is not a duration of at most 30 days",
                self.what
            );
            findings.mistake(
                self.source,
                value.span().start,
                message,
                format!("{key} = {}", duration::EXAMPLE),
            );
        }
        parsed
    }

    /// A whole number that JSON holds exactly.
    pub(super) fn integer(&mut self, key: &'static str, findings: &mut Findings) -> Option<i64> {
        let value = self.get(key)?;
        let number = whole(value.get_ref());
        if number.is_none() {
            let message = format!(
                "`{key}` of {} is not a whole number that JSON holds exactly",
                self.what
            );
            findings.mistake(
                self.source,
                value.span().start,
                message,
                format!("{key} = a whole number from -{EXACT} to {EXACT}"),
            );
        }
        number
    }

    /// True or false; false when absent.
    pub(super) fn boolean(&mut self, key: &'static str, findings: &mut Findings) -> Option<bool> {
        let value = self.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong(key, value, "true or false", findings);
        }
        truth
    }

    /// A list of texts.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        example: &str,
        findings: &mut Findings,
    ) -> Option<Vec<Spanned<String>>> {
        let Some(value) = self.get(key) else {
            self.missing(key, example, findings);
            return None;
        };
        let texts = value.get_ref().as_array().and_then(|items| {
            items
                .iter()
                .map(|item| {
                    let text = item.get_ref().as_str()?;
                    Some(Spanned::new(item.span(), text.to_owned()))
                })
                .collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.wrong(key, value, example, findings);
        }
        texts
    }

    /// A table inside, to be read in turn.
    pub(super) fn table(
        &mut self,
        key: &'static str,
        what: impl Into<String>,
        example: &str,
        findings: &mut Findings,
    ) -> Option<Fields<'a, 'i>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Fields::new(self.source, value.span().start, what, table)),
            None => {
                self.wrong(key, value, example, findings);
                None
            }
        }
    }

    /// As [`Fields::table`], but it must be there.
    pub(super) fn required_table(
        &mut self,
        key: &'static str,
        what: impl Into<String>,
        example: &str,
        findings: &mut Findings,
    ) -> Option<Fields<'a, 'i>> {
        if self.get(key).is_none() {
            self.missing(key, example, findings);
        }
        self.table(key, what, example, findings)
    }

    /// All entries of a table whose keys are free, in the order of their keys.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = (&'a Key<'i>, &'a Field<'i>)> + use<'a, 'i> {
        self.table.iter()
    }
}

/// The whole number in `value`, when JSON holds it exactly.
pub(super) fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
    (-EXACT..=EXACT).contains(&number).then_some(number)
}

/// A TOML value as JSON, when it has only what scopes and parameters may hold.
///
/// # Errors
/// Where the first value is that does not fit.
pub(super) fn json(value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Value, usize> {
    let here = value.span().start;
    if depth == 0 {
        return Err(here);
    }
    match value.get_ref() {
        DeValue::String(text) => Ok(Value::from(text.as_ref())),
        DeValue::Boolean(truth) => Ok(Value::from(*truth)),
        DeValue::Integer(_) => whole(value.get_ref()).map(Value::from).ok_or(here),
        DeValue::Array(items) => items.iter().map(|item| json(item, depth - 1)).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, item)| Ok((key.get_ref().to_string(), json(item, depth - 1)?)))
            .collect(),
        DeValue::Float(_) | DeValue::Datetime(_) => Err(here),
    }
}

/// Text from a file made fit for a message: short, on one line.
pub(super) fn show(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn article(word: &str) -> String {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if vowel { "an" } else { "a" })
}
