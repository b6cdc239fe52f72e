//! Canonical JSON (RFC 8785), written in one pass.
//!
//! A value has exactly one spelling: members sorted by the UTF-16 code units of their names, no blanks, the shortest
//! escapes, numbers as ECMAScript writes them. Every entry and every digest goes through here, so it is our own rather
//! than a library's: no tree of values is built and sorted.

mod compound;
mod name;

use std::cmp::Ordering;
use std::fmt::{self, Display, Write as _};
use std::io::Write as _;

use serde::ser::{self, Serialize};

use self::compound::Compound;

/// The largest whole number that a double, and so canonical JSON, has exactly.
const LARGEST_EXACT: u64 = (1 << 53) - 1;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotCanonical(String);

impl ser::Error for NotCanonical {
    fn custom<T: Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

type Written = Result<(), NotCanonical>;

/// A canonical form, and what a reader of it has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canonical {
    /// The text, in UTF-8.
    pub bytes: Vec<u8>,
    /// The first whole number beyond 2^53: the nearest double is written in its place, as the RFC has it.
    pub inexact: Option<String>,
    /// How many arrays and objects are inside one another at most.
    pub depth: usize,
}

/// The canonical form of `value`.
///
/// # Errors
/// When it has a number that is none, or a map whose names are no texts.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, NotCanonical> {
    Ok(write(value)?.bytes)
}

/// The same, with what is special about it.
///
/// # Errors
/// As for [`to_vec`].
pub fn write<T: Serialize + ?Sized>(value: &T) -> Result<Canonical, NotCanonical> {
    let mut writer = Writer::default();
    value.serialize(&mut writer)?;
    Ok(Canonical {
        bytes: writer.out,
        inexact: writer.inexact,
        depth: writer.deepest,
    })
}

/// A member of an object that is being written: where its name is in `names`, and where it is in `out`.
#[derive(Clone, Copy)]
struct Member {
    name: (usize, usize),
    text: (usize, usize),
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    /// Members of all objects that are open, the innermost last.
    members: Vec<Member>,
    names: String,
    scratch: Vec<u8>,
    /// The first whole number that was changed.
    inexact: Option<String>,
    depth: usize,
    deepest: usize,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: &str) {
        self.out.push(b'"');
        self.escaped(text);
        self.out.push(b'"');
    }

    fn escaped(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(place) = rest.iter().position(|byte| must_escape(*byte)) {
            let (plain, special) = rest.split_at(place);
            self.out.extend_from_slice(plain);
            let Some((byte, after)) = special.split_first() else {
                return;
            };
            self.escape(*byte);
            rest = after;
        }
        self.out.extend_from_slice(rest);
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            8 => b'b',
            9 => b't',
            10 => b'n',
            12 => b'f',
            13 => b'r',
            _ => return self.raw(&format!("\\u{byte:04x}")),
        };
        self.out.extend([b'\\', short]);
    }

    fn whole(&mut self, negative: bool, amount: u64) -> Written {
        let sign = if negative { "-" } else { "" };
        if amount > LARGEST_EXACT {
            self.inexact
                .get_or_insert_with(|| format!("{sign}{amount}"));
            #[expect(
                clippy::cast_precision_loss,
                reason = "the nearest double is what is wanted"
            )]
            let nearest = amount as f64;
            return self.double(if negative { -nearest } else { nearest });
        }
        write!(self.out, "{sign}{amount}").map_err(ser::Error::custom)
    }

    fn double(&mut self, number: f64) -> Written {
        if !number.is_finite() {
            return Err(NotCanonical(format!("{number} is no JSON number")));
        }
        self.raw(ryu_js::Buffer::new().format_finite(number));
        Ok(())
    }

    fn open(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
    }

    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.depth -= 1;
    }

    /// Opens the object of a variant, whose only member needs no order.
    fn open_variant(&mut self, variant: &str) {
        self.open(b'{');
        self.text(variant);
        self.out.push(b':');
    }

    /// Puts the members written since `base` into order, if they are not.
    fn sort(&mut self, base: usize) {
        let names = &self.names;
        let name = |member: &Member| names.get(member.name.0..member.name.1).unwrap_or_default();
        let order = |a: &Member, b: &Member| by_code_units(name(a), name(b));
        let own = self.members.get_mut(base..).unwrap_or_default();
        let Some(first) = own.first().copied() else {
            return;
        };
        if !own.is_sorted_by(|a, b| order(a, b).is_lt()) {
            own.sort_by(order);
            self.scratch.clear();
            for member in own.iter() {
                if !self.scratch.is_empty() {
                    self.scratch.push(b',');
                }
                let text = self.out.get(member.text.0..member.text.1);
                self.scratch.extend_from_slice(text.unwrap_or_default());
            }
            self.out.truncate(first.text.0);
            self.out.extend_from_slice(&self.scratch);
        }
        self.names.truncate(first.name.0);
        self.members.truncate(base);
    }
}

fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Bytes of UTF-8 sort as code points do; UTF-16 puts those beyond U+FFFF before U+E000.
fn by_code_units(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        return a.cmp(b);
    }
    a.encode_utf16().cmp(b.encode_utf16())
}

macro_rules! whole {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, number: $type) -> Written {
            self.whole(number < 0, u64::from(number.unsigned_abs()))
        })*
    };
}

macro_rules! natural {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, number: $type) -> Written {
            self.whole(false, u64::from(number))
        })*
    };
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = NotCanonical;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    whole!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    natural!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);

    fn serialize_bool(self, value: bool) -> Written {
        self.raw(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_f32(self, number: f32) -> Written {
        self.double(f64::from(number))
    }

    fn serialize_f64(self, number: f64) -> Written {
        self.double(number)
    }

    fn serialize_char(self, value: char) -> Written {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Written {
        self.text(text);
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Written {
        self.out.push(b'"');
        write!(Escaped(self), "{value}").map_err(ser::Error::custom)?;
        self.out.push(b'"');
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Written {
        bytes.serialize(self)
    }

    fn serialize_none(self) -> Written {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.raw("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        self.open_variant(variant);
        value.serialize(&mut *self)?;
        self.close(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>, NotCanonical> {
        Ok(Compound::begin(self, b'[', false))
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'a>, NotCanonical> {
        Ok(Compound::begin(self, b'[', false))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, NotCanonical> {
        Ok(Compound::begin(self, b'[', false))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, NotCanonical> {
        self.open_variant(variant);
        Ok(Compound::begin(self, b'[', true))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'a>, NotCanonical> {
        Ok(Compound::begin(self, b'{', false))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, NotCanonical> {
        Ok(Compound::begin(self, b'{', false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, NotCanonical> {
        self.open_variant(variant);
        Ok(Compound::begin(self, b'{', true))
    }
}

/// Escapes what is formatted into it.
struct Escaped<'a>(&'a mut Writer);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escaped(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        /// An independent implementation writes the same.
        #[test]
        fn any_value_has_the_spelling_of_the_rfc(value in any_json()) {
            let theirs = serde_json_canonicalizer::to_vec(&value).unwrap();
            prop_assert_eq!(to_vec(&value).unwrap(), theirs);
        }
    }

    #[derive(serde::Serialize)]
    enum Shape {
        Unit,
        Newtype(u8),
        Tuple(i16, bool),
        Struct { b: Option<char>, a: Vec<Shape> },
    }

    /// Members of a variant are sorted and counted like others, and numbers may be names.
    #[test]
    fn whatever_a_type_is_made_of_is_written_as_a_library_writes_it() {
        let inner = vec![Shape::Unit, Shape::Newtype(7), Shape::Tuple(-3, true)];
        let shape = Shape::Struct {
            b: Some('é'),
            a: inner,
        };
        let value = std::collections::BTreeMap::from([(10_u64, &shape), (9, &Shape::Unit)]);
        let written = write(&value).unwrap();
        let theirs = serde_json_canonicalizer::to_vec(&value).unwrap();
        assert_eq!(written.bytes, theirs);
        assert_eq!(
            written.depth, 6,
            "map, variant, members, list, variant, list"
        );
    }

    #[test]
    fn the_example_of_the_rfc() {
        let value = json!({
            "numbers": [333_333_333.333_333_3, 1e30, 4.50, 2e-3, 0.000_000_000_000_000_000_000_000_001],
            "string": "\u{20ac}$\u{f}\nA'B\"\\\\\"/",
            "literals": [null, true, false],
        });
        let written = String::from_utf8(to_vec(&value).unwrap()).unwrap();
        assert_eq!(
            written,
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    #[test]
    fn members_sort_by_utf_16() {
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let written = String::from_utf8(to_vec(&value).unwrap()).unwrap();
        let order: Vec<_> = written.matches(|c: char| c.is_ascii_digit()).collect();
        assert_eq!(order.join(""), "21467153", "{written}");
    }

    #[test]
    fn depth_and_numbers_that_change_are_told() {
        let written = write(&json!({"a": [[u64::MAX, 1]]})).unwrap();
        assert_eq!(written.depth, 3);
        assert_eq!(written.inexact.as_deref(), Some("18446744073709551615"));
        assert!(to_vec(&f64::NAN).is_err());
    }
}
