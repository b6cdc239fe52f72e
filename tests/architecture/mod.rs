//! What holds of the sources as text: who imports whom, how big things are, what must not be left behind, that
//! every law and case has its test, that the documents lead somewhere.

mod dependencies;
mod documents;
mod imports;
mod leftovers;
mod names;
mod size;
mod source;
