//! The canonical form of JSON (RFC 8785): one spelling for one value, so that it can be hashed and signed.
//!
//! Members are sorted by the UTF-16 of their names, numbers are written as JavaScript writes them, texts with
//! the shortest escapes, nothing has space around it. Everything that enters the ledger passes through here a
//! few times, so it is written into one buffer and sorted in place.

use std::cmp::Ordering;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Whole numbers up to this are their own digits; beyond it a double decides.
const LARGEST_EXACT: u64 = (1 << 53) - 1;

/// The canonical form of `value`, which is plain data: structs, texts, numbers and maps by text.
///
/// # Errors
/// When it is none: a map whose keys are not texts, or a member given twice.
pub fn canonical<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(
        &mut out,
        Canonical::default(),
    ))?;
    Ok(out)
}

/// One member of an object that is being written.
struct Member {
    /// Its name without escapes, in `names`.
    name: Range<usize>,
    /// Name, colon and value, in `buffer`.
    text: Range<usize>,
}

/// An object that is being written.
struct Object {
    /// Where its members begin in `members`, `names` and `buffer`.
    members: usize,
    names: usize,
    text: usize,
}

/// Writes into `buffer` while inside an object, and into the writer outside.
#[derive(Default)]
struct Canonical {
    buffer: Vec<u8>,
    names: Vec<u8>,
    members: Vec<Member>,
    objects: Vec<Object>,
    in_name: bool,
    sorted: Vec<u8>,
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// By UTF-16, which is by bytes as long as both are ASCII.
fn by_name(one: &[u8], other: &[u8]) -> Ordering {
    if one.is_ascii() && other.is_ascii() {
        return one.cmp(other);
    }
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    one.encode_utf16().cmp(other.encode_utf16())
}

impl Canonical {
    fn put<W: ?Sized + Write>(&mut self, writer: &mut W, bytes: &[u8]) -> io::Result<()> {
        if self.objects.is_empty() {
            return writer.write_all(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// A number that may not be its own digits.
    fn put_double<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let text = serde_json_canonicalizer::to_vec(&value)?;
        self.put(writer, &text)
    }

    fn put_whole<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        size: u64,
        negative: bool,
    ) -> io::Result<()> {
        if size > LARGEST_EXACT {
            #[expect(clippy::cast_precision_loss, reason = "as RFC 8785 has it")]
            let double = size as f64;
            return self.put_double(writer, if negative { -double } else { double });
        }
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = size;
        loop {
            at -= 1;
            if let (Some(place), Ok(digit)) = (digits.get_mut(at), u8::try_from(rest % 10)) {
                *place = b'0' + digit;
            }
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if negative {
            self.put(writer, b"-")?;
        }
        self.put(writer, digits.get(at..).unwrap_or_default())
    }

    /// Puts the members of the innermost object into order.
    fn sort(&mut self, object: &Object) -> io::Result<()> {
        let names = &self.names;
        let of = |member: &Member| names.get(member.name.clone()).unwrap_or_default();
        let members = self
            .members
            .get_mut(object.members..)
            .ok_or_else(|| broken("an object ends that did not begin"))?;
        if !members.is_sorted_by(|one, other| by_name(of(one), of(other)).is_lt()) {
            members.sort_by(|one, other| by_name(of(one), of(other)));
            let pairs = members.iter().zip(members.iter().skip(1));
            if pairs.into_iter().any(|(one, next)| of(one) == of(next)) {
                return Err(broken("a member is given twice"));
            }
            self.sorted.clear();
            for (place, member) in members.iter().enumerate() {
                if place > 0 {
                    self.sorted.push(b',');
                }
                let text = self.buffer.get(member.text.clone());
                self.sorted.extend_from_slice(text.unwrap_or_default());
            }
            self.buffer.truncate(object.text);
            self.buffer.extend_from_slice(&self.sorted);
        }
        self.members.truncate(object.members);
        self.names.truncate(object.names);
        Ok(())
    }
}

macro_rules! whole_numbers {
    ($($method:ident $kind:ty),*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W, value: $kind) -> io::Result<()> {
            self.put_whole(writer, u64::from(value), false)
        })*
    };
    (signed $($method:ident $kind:ty),*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W, value: $kind) -> io::Result<()> {
            self.put_whole(writer, u64::from(value.unsigned_abs()), value < 0)
        })*
    };
}

impl Formatter for Canonical {
    whole_numbers!(write_u8 u8, write_u16 u16, write_u32 u32, write_u64 u64);
    whole_numbers!(signed write_i8 i8, write_i16 i16, write_i32 i32, write_i64 i64);

    fn write_null<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, b"null")
    }

    fn write_bool<W: ?Sized + Write>(&mut self, writer: &mut W, value: bool) -> io::Result<()> {
        self.put(writer, if value { b"true" } else { b"false" })
    }

    fn write_i128<W: ?Sized + Write>(&mut self, _: &mut W, _: i128) -> io::Result<()> {
        Err(broken("a number of 128 bits has no canonical form"))
    }

    fn write_u128<W: ?Sized + Write>(&mut self, _: &mut W, _: u128) -> io::Result<()> {
        Err(broken("a number of 128 bits has no canonical form"))
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.put_double(writer, f64::from(value))
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        self.put_double(writer, value)
    }

    fn write_number_str<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        value: &str,
    ) -> io::Result<()> {
        let double = value.parse().map_err(|_| broken("a number is malformed"))?;
        self.put_double(writer, double)
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, b"\"")
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, b"\"")
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.in_name {
            self.names.extend_from_slice(fragment.as_bytes());
        }
        self.put(writer, fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let (plain, text): (u8, &[u8]) = match escape {
            CharEscape::Quote => (b'"', b"\\\""),
            CharEscape::ReverseSolidus => (b'\\', b"\\\\"),
            CharEscape::Solidus => (b'/', b"/"),
            CharEscape::Backspace => (8, b"\\b"),
            CharEscape::FormFeed => (12, b"\\f"),
            CharEscape::LineFeed => (b'\n', b"\\n"),
            CharEscape::CarriageReturn => (b'\r', b"\\r"),
            CharEscape::Tab => (b'\t', b"\\t"),
            CharEscape::AsciiControl(byte) => (byte, &[]),
        };
        if self.in_name {
            self.names.push(plain);
        }
        if text.is_empty() {
            return self.put(writer, format!("\\u{plain:04x}").as_bytes());
        }
        self.put(writer, text)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            return Ok(());
        }
        self.put(writer, b",")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, b"{")?;
        self.objects.push(Object {
            members: self.members.len(),
            names: self.names.len(),
            text: self.buffer.len(),
        });
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let object = self.objects.pop();
        let object = object.ok_or_else(|| broken("an object ends that did not begin"))?;
        self.sort(&object)?;
        if self.objects.is_empty() {
            writer.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        self.put(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if !first {
            self.put(writer, b",")?;
        }
        let (name, text) = (self.names.len(), self.buffer.len());
        self.members.push(Member {
            name: name..name,
            text: text..text,
        });
        self.in_name = true;
        Ok(())
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_name = false;
        if let Some(member) = self.members.last_mut() {
            member.name.end = self.names.len();
        }
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.put(writer, b":")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        // Objects inside the value have taken their members with them, so the last one is this one's.
        if let Some(member) = self.members.last_mut() {
            member.text.end = self.buffer.len();
        }
        Ok(())
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, _: &mut W, _: &str) -> io::Result<()> {
        Err(broken("raw JSON may not be canonical"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1000i64..1000).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
        ];
        let text = prop_oneof![
            "[a-c]{0,2}",
            any::<String>(),
            "[\"\\\\/\u{0}-\u{1f}\u{7f}ä\u{e000}\u{ffff}\u{10000}]{0,3}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            number,
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            let member = (text.clone(), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::from),
                prop::collection::vec(member, 0..8)
                    .prop_map(|members| Value::Object(Map::from_iter(members))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// The same bytes as an implementation that is not ours.
        #[test]
        fn l06_the_canonical_form_is_the_one_others_write(value in value()) {
            let ours = canonical(&value).unwrap();
            let theirs = serde_json_canonicalizer::to_vec(&value).unwrap();
            prop_assert_eq!(String::from_utf8(ours), String::from_utf8(theirs));
        }

        /// Members of structs and hash maps come in any order.
        #[test]
        fn members_are_sorted_however_they_come(members in prop::collection::hash_map(any::<String>(), value(), 0..12)) {
            let members: HashMap<_, _> = members;
            let ours = canonical(&[&members, &members]).unwrap();
            let theirs = serde_json_canonicalizer::to_vec(&[&members, &members]).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }

    /// The sample of RFC 8785 §3.2.3, whose names sort by UTF-16.
    #[test]
    fn names_sort_by_utf16() {
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control",
            "\u{f6}": "Latin Small Letter O With Diaeresis"
        });
        let text = String::from_utf8(canonical(&value).unwrap()).unwrap();
        let order = [
            "\\r",
            "1",
            "\u{80}",
            "\u{f6}",
            "\u{20ac}",
            "\u{1f600}",
            "\u{fb33}",
        ];
        let places = order.map(|name| text.find(&format!("\"{name}\":")).unwrap());
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        #[derive(Serialize)]
        struct Twice {
            a: u8,
            #[serde(flatten)]
            rest: HashMap<&'static str, u8>,
        }
        let rest = HashMap::from([("a", 2)]);
        assert!(canonical(&Twice { a: 1, rest }).is_err());
        assert!(canonical(&u128::MAX).is_err());
        assert!(canonical(&HashMap::from([((1, 2), 3)])).is_err());
    }
}
