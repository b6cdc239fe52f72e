//! Reading ahead in an export: while one thread folds entries in their order, others hash and decode the next ones.
//! So much is read ahead and no more, however long the export is.

use std::collections::VecDeque;
use std::io::BufRead;
use std::panic::resume_unwind;
use std::thread::{Scope, ScopedJoinHandle, available_parallelism};
use std::vec;

use super::export::{ExportReader, Line, ReadError};
use super::reader::Decoded;
use crate::domain::Digest;

/// Lines that one thread takes at once, at most.
const LINES: usize = 512;
/// Bytes of them, at most, but for the last line.
const BYTES: usize = 512 * 1024;
/// Threads at most.
const THREADS: usize = 8;

/// A line after the header.
#[expect(clippy::large_enum_variant, reason = "all lines but one are entries")]
pub(super) enum Read {
    /// An entry: index, leaf hash and signature as the line claims, and what its bytes are.
    Entry((u64, Digest, Option<String>), Decoded),
    /// The checkpoint over all of them.
    Checkpoint(String),
}

impl Read {
    fn of(line: &[u8]) -> Result<Self, ReadError> {
        Ok(match Line::parse(line)? {
            Line::Checkpoint(note) => Read::Checkpoint(note),
            Line::Entry(line) => {
                let decoded = Decoded::of(line.entry.as_bytes());
                Read::Entry((line.seq, line.leaf, line.signature), decoded)
            }
        })
    }
}

type Lines = Vec<Result<Read, ReadError>>;

/// The lines of an export in their order. An error is the last.
pub(super) struct Ahead<'scope, 'env, R> {
    /// `None` after the end, or after an error.
    input: Option<ExportReader<R>>,
    scope: &'scope Scope<'scope, 'env>,
    /// What the threads are at, in the order of the lines.
    under_way: VecDeque<ScopedJoinHandle<'scope, Lines>>,
    threads: usize,
    done: vec::IntoIter<Result<Read, ReadError>>,
}

impl<'scope, 'env, R: BufRead> Ahead<'scope, 'env, R> {
    /// Reads on in `input`; the threads belong to `scope`.
    pub(super) fn new(input: ExportReader<R>, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self {
            input: Some(input),
            scope,
            under_way: VecDeque::new(),
            threads: available_parallelism().map_or(1, usize::from).min(THREADS),
            done: Vec::new().into_iter(),
        }
    }

    /// Gives a thread the next lines.
    fn send_off(&mut self) {
        let Some(input) = &mut self.input else { return };
        let (mut lines, mut bytes, mut last) = (Vec::new(), 0, None);
        while lines.len() < LINES && bytes < BYTES {
            match input.next_bytes() {
                Ok(Some(line)) => {
                    bytes += line.len();
                    lines.push(line);
                }
                Ok(None) => {
                    self.input = None;
                    break;
                }
                Err(error) => {
                    last = Some(Err(error));
                    self.input = None;
                    break;
                }
            }
        }
        self.under_way.push_back(self.scope.spawn(move || {
            let read = lines.iter().map(|line| Read::of(line));
            read.chain(last).collect()
        }));
    }
}

impl<R: BufRead> Iterator for Ahead<'_, '_, R> {
    type Item = Result<Read, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.done.next() {
                return Some(line);
            }
            while self.input.is_some() && self.under_way.len() <= self.threads {
                self.send_off();
            }
            let lines = self.under_way.pop_front()?;
            // A thread that panicked has not read its lines: nothing may go on without them.
            self.done = lines
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
                .into_iter();
        }
    }
}
