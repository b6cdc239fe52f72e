//! Reading the fields of a JSON object: every mistake is collected, with its pointer and what would be right.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::body::escape;
use super::problem::{Mistake, Problem};

/// A body that is read field by field.
pub trait FromFields: Sized {
    /// The fields it knows. Any other is refused.
    const NAMES: &'static [&'static str];

    /// Reads them. `None` when something is wrong; what is wrong is noted in `fields`.
    fn from_fields(fields: &mut Fields) -> Option<Self>;
}

/// The fields of one object and the mistakes found in them so far.
#[derive(Debug)]
pub struct Fields {
    members: Map<String, Value>,
    at: String,
    mistakes: Vec<Mistake>,
}

impl Fields {
    /// Reads a whole body.
    ///
    /// # Errors
    /// A problem that lists every mistake.
    pub fn read<T: FromFields>(body: Value) -> Result<T, Problem> {
        let Value::Object(members) = body else {
            return Err(Problem::mistake(
                "",
                "wrong_type",
                "the body is one JSON object",
            ));
        };
        let mut fields = Self {
            members,
            at: String::new(),
            mistakes: Vec::new(),
        };
        fields.refuse_unknown(T::NAMES);
        match T::from_fields(&mut fields) {
            Some(value) if fields.mistakes.is_empty() => Ok(value),
            _ => Err(Problem::invalid(fields.mistakes)),
        }
    }

    /// Notes a mistake in a field.
    pub fn wrong(&mut self, name: &str, code: &str, detail: impl Into<String>) {
        self.mistakes.push(Mistake {
            pointer: format!("{}/{}", self.at, escape(name)),
            code: code.into(),
            detail: detail.into(),
        });
    }

    fn refuse_unknown(&mut self, known: &[&str]) {
        let known_words = if known.is_empty() {
            "there are none".into()
        } else {
            known.join(", ")
        };
        let unknown = self
            .members
            .keys()
            .filter(|name| !known.contains(&name.as_str()));
        let unknown: Vec<String> = unknown.take(16).cloned().collect();
        for name in unknown {
            let detail = format!("is not a field here: {known_words}");
            self.wrong(&name, "unknown_field", detail);
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// A text without NUL of at most `longest` characters, if it is there.
    pub fn text(&mut self, name: &str, longest: usize) -> Option<String> {
        let text = match self.take(name)? {
            Value::String(text) => text,
            _ => {
                self.wrong(name, "wrong_type", "give text");
                return None;
            }
        };
        self.fits(name, &text, longest).then_some(text)
    }

    fn fits(&mut self, name: &str, text: &str, longest: usize) -> bool {
        let problem = if text.contains('\0') {
            "must not contain NUL".into()
        } else if text.chars().count() > longest || text.len() > longest.saturating_mul(4) {
            format!("has at most {longest} characters; shorten it")
        } else {
            return true;
        };
        self.wrong(name, "invalid_value", problem);
        false
    }

    /// A text that must be there.
    pub fn required_text(&mut self, name: &str, longest: usize) -> Option<String> {
        if self.is_missing(name) {
            return None;
        }
        let text = self.text(name, longest)?;
        if text.trim().is_empty() {
            self.wrong(name, "invalid_value", "must not be blank");
            return None;
        }
        Some(text)
    }

    /// A text that must be there and be a `T`.
    pub fn required<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.required_text(name, 512)?;
        text.parse()
            .map_err(|error: T::Err| self.wrong(name, "invalid_value", error.to_string()))
            .ok()
    }

    /// One of a few words that must be there.
    pub fn required_word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let given = self.required_text(name, 64)?;
        let found = words.iter().find(|(word, _)| *word == given);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let detail = format!("give one of {}", known.join(", "));
            self.wrong(name, "invalid_value", detail);
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number, if it is there.
    pub fn whole(&mut self, name: &str, min: i64, max: i64) -> Option<i64> {
        let value = self.take(name)?;
        let Some(number) = value.as_i64() else {
            self.wrong(name, "wrong_type", "give a whole number");
            return None;
        };
        if (min..=max).contains(&number) {
            return Some(number);
        }
        self.wrong(
            name,
            "invalid_value",
            format!("give a whole number from {min} to {max}"),
        );
        None
    }

    /// An object as it stands, if it is there.
    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(members) => Some(members),
            _ => {
                self.wrong(name, "wrong_type", "give a JSON object");
                None
            }
        }
    }

    /// An object read field by field, if it is there.
    pub fn nested<T: FromFields>(&mut self, name: &str) -> Option<T> {
        let members = self.object(name)?;
        let at = format!("{}/{}", self.at, escape(name));
        let mut inner = Self {
            members,
            at,
            mistakes: Vec::new(),
        };
        inner.refuse_unknown(T::NAMES);
        let value = T::from_fields(&mut inner);
        self.mistakes.append(&mut inner.mistakes);
        value
    }

    /// An object of texts, if it is there: at most `most` entries, each of at most `longest` characters.
    pub fn texts(&mut self, name: &str, most: usize, longest: usize) -> Map<String, Value> {
        let members = self.object(name).unwrap_or_default();
        if members.len() > most {
            self.wrong(name, "invalid_value", format!("has at most {most} entries"));
            return Map::new();
        }
        for (key, value) in &members {
            let place = format!("{name}/{}", escape(key));
            if key.is_empty() || key.len() > 64 || key.chars().any(char::is_control) {
                self.wrong_at(
                    &place,
                    "invalid_value",
                    "a name here has 1 to 64 characters",
                );
            }
            match value {
                Value::String(text) if text.contains('\0') => {
                    self.wrong_at(&place, "invalid_value", "must not contain NUL");
                }
                Value::String(text) if text.chars().count() > longest => {
                    let detail = format!("has at most {longest} characters; shorten it");
                    self.wrong_at(&place, "invalid_value", &detail);
                }
                Value::String(_) => {}
                _ => self.wrong_at(&place, "wrong_type", "give text"),
            }
        }
        members
    }

    fn wrong_at(&mut self, place: &str, code: &str, detail: &str) {
        self.mistakes.push(Mistake {
            pointer: format!("{}/{place}", self.at),
            code: code.into(),
            detail: detail.into(),
        });
    }

    /// Notes and says whether a required field is missing.
    pub fn is_missing(&mut self, name: &str) -> bool {
        let missing = self.members.get(name).is_none_or(Value::is_null);
        if missing {
            self.wrong(name, "missing_field", "is required");
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug)]
    struct Sample;

    impl FromFields for Sample {
        const NAMES: &'static [&'static str] = &["word", "count", "inner"];

        fn from_fields(fields: &mut Fields) -> Option<Self> {
            fields.required_word("word", &[("yes", true), ("no", false)]);
            fields.whole("count", 1, 9);
            fields.texts("inner", 2, 3);
            Some(Self)
        }
    }

    #[test]
    fn every_mistake_is_listed_with_its_place() {
        let body = json!({"word": "maybe", "count": 10, "inner": {"a/b": 1, "c": "long"}, "x": 1});
        let problem = serde_json::to_value(Fields::read::<Sample>(body).unwrap_err()).unwrap();
        let listed: Vec<_> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| format!("{} {}", error["pointer"], error["code"]).replace('"', ""))
            .collect();
        assert_eq!(
            listed,
            [
                "/x unknown_field",
                "/word invalid_value",
                "/count invalid_value",
                "/inner/a~1b wrong_type",
                "/inner/c invalid_value",
            ]
        );
        assert_eq!(problem["code"], "unknown_field");
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let missing = Fields::read::<Sample>(json!({"word": null})).unwrap_err();
        assert_eq!(missing.code(), "missing_field");
        assert!(Fields::read::<Sample>(json!({"word": "yes", "count": null})).is_ok());
    }
}
