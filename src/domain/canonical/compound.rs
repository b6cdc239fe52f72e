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
    /// What closes it, and what it is in.
    end: &'static str,
}

impl<'a> Compound<'a> {
    pub(super) fn array(writer: &'a mut Writer, end: &'static str) -> Self {
        writer.out.push(b'[');
        Self::new(writer, end)
    }

    pub(super) fn object(writer: &'a mut Writer, end: &'static str) -> Self {
        writer.out.push(b'{');
        Self::new(writer, end)
    }

    fn new(writer: &'a mut Writer, end: &'static str) -> Self {
        let base = writer.members.len();
        writer.depth += 1;
        writer.deepest = writer.deepest.max(writer.depth);
        Self {
            writer,
            base,
            begun: false,
            end,
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

    pub(super) fn name(&mut self, name: &str) {
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

    pub(super) fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut *self.writer)?;
        let end = self.writer.out.len();
        if let Some(member) = self.writer.members.last_mut() {
            member.text.1 = end;
        }
        Ok(())
    }

    fn end_array(self) -> Written {
        self.writer.depth -= 1;
        self.writer.out.push(b']');
        self.writer.raw(self.end);
        Ok(())
    }

    pub(super) fn end_object(self) -> Written {
        self.writer.depth -= 1;
        self.writer.close(self.base);
        self.writer.raw(self.end);
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
                self.end_array()
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
                self.end_object()
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
        self.end_object()
    }
}
