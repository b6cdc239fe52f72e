//! An array or an object on its way out.

use serde::ser::{self, Serialize};

use super::name::Name;
use super::{Member, NotCanonical, Writer, Written};

/// An array or an object that is being written.
pub(super) struct Compound<'a> {
    writer: &'a mut Writer,
    /// Where its members begin.
    base: usize,
    /// Whether anything was written into it.
    begun: bool,
    bracket: u8,
    /// Whether it is the content of a variant, whose object closes with it.
    in_variant: bool,
}

impl<'a> Compound<'a> {
    /// Opens it; `bracket` is the one it opens with.
    pub(super) fn begin(writer: &'a mut Writer, bracket: u8, in_variant: bool) -> Self {
        let base = writer.members.len();
        writer.open(bracket);
        Self {
            writer,
            base,
            begun: false,
            bracket,
            in_variant,
        }
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            self.writer.out.push(b',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.separate();
        value.serialize(&mut *self.writer)
    }

    fn name(&mut self, name: &str) {
        self.separate();
        let from = self.writer.names.len();
        self.writer.names.push_str(name);
        let start = self.writer.out.len();
        self.writer.members.push(Member {
            name: (from, from + name.len()),
            text: (start, start),
        });
        self.writer.text(name);
        self.writer.out.push(b':');
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut *self.writer)?;
        let end = self.writer.out.len();
        if let Some(member) = self.writer.members.last_mut() {
            member.text.1 = end;
        }
        Ok(())
    }

    fn close(self) -> Written {
        if self.bracket == b'{' {
            self.writer.sort(self.base);
            self.writer.close(b'}');
        } else {
            self.writer.close(b']');
        }
        if self.in_variant {
            self.writer.close(b'}');
        }
        Ok(())
    }
}

macro_rules! array {
    ($trait:ident, $method:ident) => {
        impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = NotCanonical;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                self.item(value)
            }

            fn end(self) -> Written {
                self.close()
            }
        }
    };
}

array!(SerializeSeq, serialize_element);
array!(SerializeTuple, serialize_element);
array!(SerializeTupleStruct, serialize_field);
array!(SerializeTupleVariant, serialize_field);

macro_rules! object {
    ($trait:ident) => {
        impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = NotCanonical;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Written {
                self.name(name);
                self.value(value)
            }

            fn end(self) -> Written {
                self.close()
            }
        }
    };
}

object!(SerializeStruct);
object!(SerializeStructVariant);

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = NotCanonical;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        let name = key.serialize(Name)?;
        self.name(&name);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.value(value)
    }

    fn end(self) -> Written {
        self.close()
    }
}
