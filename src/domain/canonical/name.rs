//! The names of a map's members.

use serde::ser::{self, Impossible, Serialize};

use super::NotCanonical;

/// Takes the name of a member of a map, which is a text or a number.
pub(super) struct Name;

fn no_name<T>() -> Result<T, NotCanonical> {
    Err(NotCanonical(
        "the names of a map's members are texts".into(),
    ))
}

macro_rules! named {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<String, NotCanonical> {
            Ok(value.to_string())
        })*
    };
}

macro_rules! nameless {
    ($($method:ident($($type:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $type),*) -> Result<$result, NotCanonical> {
            no_name()
        })*
    };
}

impl ser::Serializer for Name {
    type Ok = String;
    type Error = NotCanonical;
    type SerializeSeq = Impossible<String, NotCanonical>;
    type SerializeTuple = Impossible<String, NotCanonical>;
    type SerializeTupleStruct = Impossible<String, NotCanonical>;
    type SerializeTupleVariant = Impossible<String, NotCanonical>;
    type SerializeMap = Impossible<String, NotCanonical>;
    type SerializeStruct = Impossible<String, NotCanonical>;
    type SerializeStructVariant = Impossible<String, NotCanonical>;

    named!(serialize_str &str, serialize_char char, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32,
        serialize_i64 i64, serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);
    nameless! {
        serialize_bool(bool) -> String;
        serialize_f32(f32) -> String;
        serialize_f64(f64) -> String;
        serialize_bytes(&[u8]) -> String;
        serialize_none() -> String;
        serialize_unit() -> String;
        serialize_unit_struct(&'static str) -> String;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String, NotCanonical> {
        Ok(variant.to_owned())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<String, NotCanonical> {
        no_name()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, NotCanonical> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, NotCanonical> {
        no_name()
    }
}
