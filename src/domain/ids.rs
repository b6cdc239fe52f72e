//! Names and identifiers. Names are what people write in files; ids are drawn by the broker.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::time::Time;
use super::{base32, canonical};

/// Why a text is not the name, id or digest it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {rule}")]
pub struct Malformed {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl Malformed {
    fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        let text = text.chars().take(80).collect();
        Self { what, text, rule }
    }
}

/// Reads a text and parses it, without a copy of it in between.
pub(super) fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(Parsed(PhantomData))
}

struct Parsed<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(de::Error::custom)
    }
}

const NAME_RULE: &str =
    "use 1 to 64 of the characters a-z 0-9 . _ - and start with a letter or digit";

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    (1..=64).contains(&text.len())
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text, exactly as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                if $valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Malformed::new($what, text, $rule))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed(deserializer)
            }
        }
    };
}

text_type!(
    /// The name of an action in the catalog, such as `orders.report`.
    ActionName, "action name", NAME_RULE, is_name
);
text_type!(
    /// The name of an agent. A name is never given to a second agent.
    AgentName, "agent name", NAME_RULE, is_name
);
text_type!(
    /// The name of a target in `countersign.toml`.
    TargetName, "target name", NAME_RULE, is_name
);
text_type!(
    /// Which server a target is, as its issuer tells servers apart, such as `postgresql 7423… timeline 3`.
    ServerId,
    "server id",
    "use 1 to 200 printable ASCII characters",
    |text: &str| (1..=200).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b))
);
text_type!(
    /// The name of a guard in `countersign.toml`: a deny list shared by targets that cuts single sessions off.
    GuardName, "guard name", NAME_RULE, is_name
);
text_type!(
    /// A group as the identity provider writes it, compared exactly.
    GroupName,
    "group",
    "use 1 to 256 characters without control characters",
    |text: &str| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
);

const ID_RULE: &str = "an id is its prefix and 26 characters of lower-case Crockford base 32";

fn is_id(text: &str, prefix: &str) -> bool {
    number_of(text, prefix).is_some()
}

/// The number behind the prefix of an id.
fn number_of(text: &str, prefix: &str) -> Option<u128> {
    let digits = text.strip_prefix(prefix)?.as_bytes();
    base32::number(digits.try_into().ok()?)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        text_type!($(#[$doc])* $name, $what, ID_RULE, |text: &str| is_id(text, $prefix));

        impl $name {
            /// A new id from the time and 80 random bits (the low bits of `random`).
            pub fn draw(now: Time, random: u128) -> Self {
                let millis = u64::try_from(now.millis()).unwrap_or(0);
                Self::of_number(ulid::Ulid::from_parts(millis, random).0)
            }

            /// The id that is this number behind its prefix.
            pub fn of_number(number: u128) -> Self {
                let digits = base32::digits(number);
                Self([$prefix, &String::from_utf8_lossy(&digits)].concat().into())
            }

            /// The number behind the prefix.
            pub fn number(&self) -> u128 {
                number_of(&self.0, $prefix).unwrap_or(0)
            }

            /// The time it was drawn with.
            pub fn drawn_at(&self) -> Time {
                let ulid = self.bare().parse::<ulid::Ulid>();
                let millis = ulid.map_or(0, |ulid| ulid.timestamp_ms());
                Time::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
            }

            /// The 26 characters behind the prefix.
            pub fn bare(&self) -> &str {
                self.0.strip_prefix($prefix).unwrap_or(&self.0)
            }
        }
    };
}

id_type!(
    /// A request: one agent asking for one action. `req_…`
    RequestId, "req_", "request id"
);
id_type!(
    /// A lease: the life of one credential. `lse_…`
    LeaseId, "lse_", "lease id"
);

/// A SHA-256 hash, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(hash.as_ref());
        Self(out)
    }

    /// SHA-256 of the canonical form (RFC 8785) of `value`, which is plain data: structs, texts,
    /// numbers and maps by text.
    #[expect(
        clippy::expect_used,
        reason = "plain data can always be written as JSON"
    )]
    pub fn of_canonical<T: Serialize>(value: &T) -> Self {
        Self::of(&canonical::to_vec(value).expect("plain data"))
    }

    /// The first twelve digits, for people to compare at a glance.
    pub fn short(&self) -> String {
        hex::encode(self.0).chars().take(12).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("digest", text, "use 64 lower-case hexadecimal digits");
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(malformed());
        }
        let mut out = [0; 32];
        hex::decode_to_slice(text, &mut out).map_err(|_| malformed())?;
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(ser::Error::custom)?;
        serializer.serialize_str(str::from_utf8(&text).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_drawn_parsed_and_sort_by_time() {
        let first = RequestId::draw(Time::from_millis(1), 7);
        let second = RequestId::draw(Time::from_millis(2), 0);
        assert!(first < second);
        assert_eq!(first.as_str().parse::<RequestId>().unwrap(), first);
        assert_eq!(first.bare().len(), 26);
        assert_eq!(RequestId::of_number(first.number()), first);
        assert!(first.as_str().parse::<LeaseId>().is_err());
    }

    #[test]
    fn case_076_names_have_one_spelling() {
        assert!("orders.report".parse::<ActionName>().is_ok());
        for wrong in [
            "Agent-A", "agent-a ", " a", "", "ａgent", "a/b", "-a", ".a", "a\n",
        ] {
            assert!(wrong.parse::<AgentName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn digests_have_one_spelling() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }
}
