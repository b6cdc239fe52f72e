//! How a store keeps an entry's bytes: less than half of them, and back exactly.
//!
//! Canonical JSON has few control characters and no byte beyond 0x7e but in texts of other languages. Those bytes stand
//! for what entries have in common: 64 digits of a hash for 32 bytes, an id for 16, an instant for 7, a phrase of the
//! format for one. Whoever reads the log sees the canonical bytes; nothing but a store knows of this.
//!
//! The table of phrases never changes. A better one would be another [`FORM`].

use std::cmp::Reverse;
use std::sync::LazyLock;

use super::entry::LONGEST_ENTRY;
use crate::domain::base16::{self, pair_of};
use crate::domain::base32::{self, DIGITS};
use crate::domain::instant;

/// The first byte of the form below. Canonical bytes begin with `{`, and are kept as they are when this form is no shorter.
const FORM: u8 = 1;

/// 32 bytes follow: 64 hexadecimal digits.
const HASH: u8 = 0x00;
/// 16 bytes follow: `req_` and 26 digits of Crockford's base 32.
const REQUEST: u8 = 0x01;
/// 16 bytes follow: `lse_` and 26 digits.
const LEASE: u8 = 0x02;
/// 7 bytes follow: the 17 digits of an instant in UTC to the millisecond.
const INSTANT: u8 = 0x03;
/// 16 bytes follow: 32 hexadecimal digits.
const NAME: u8 = 0x04;
/// A byte follows that stands for itself.
const ITSELF: u8 = 0x05;
/// The first phrase; each further byte is the next one.
const PHRASES_FROM: u8 = 0x80;

/// What entries have in common. A phrase begins with one of `{}],"`, or follows another one.
const PHRASES: [&str; 118] = [
    r#"","v":2}"#,
    r#","time":""#,
    r#"},"seq":"#,
    r#"}},"seq":"#,
    r#""},"seq":"#,
    r#""}},"seq":"#,
    r#""]},"seq":"#,
    r#""]}},"seq":"#,
    r#""}}}},"seq":"#,
    r#"{"actor":{"kind":"agent","name":""#,
    r#"{"actor":{"kind":"broker"},"event":{""#,
    r#"{"actor":{"kind":"operator"},"event":{""#,
    r#"{"actor":{"kind":"person","person":{"issuer":""#,
    r#""},"event":{""#,
    r#""}},"event":{""#,
    r#"","subject":""#,
    r#"","request":""#,
    r#"},"request":""#,
    r#""},"request":""#,
    r#""],"request":""#,
    r#""}],"request":""#,
    r#"","lease":""#,
    r#"","target":""#,
    r#""},"target":""#,
    r#""],"target":""#,
    r#"","server":""#,
    r#"},"server":""#,
    r#""},"server":""#,
    r#"]},"server":""#,
    r#""]},"server":""#,
    r#"","ttl_seconds":"#,
    r#"","until":""#,
    r#"","code":""#,
    r#"","detail":""#,
    r#"","agent":""#,
    r#"","bundle":""#,
    r#"","digest":""#,
    r#""},"digest":""#,
    r#","digest":""#,
    r#"","handle":""#,
    r#"","broker":""#,
    r#"","policies":[""#,
    r#"","errors":[""#,
    r#""],"policies":[""#,
    r#""],"policies":[]}},"seq":"#,
    r#"","proof":[""#,
    r#"","residue":[""#,
    r#""],"residue":[""#,
    r#"","outcome":""#,
    r#"","retry_at":""#,
    r#"","expires":""#,
    r#"","mint_until":""#,
    r#"","collect_key":""#,
    r#"","collect_until":""#,
    r#"","comment":{"sha256":""#,
    r#"","reason":{"sha256":""#,
    r#"","content":{"sha256":""#,
    r#"","kind":"request.submitted","submission":{"#,
    r#"kind":"request.submitted","submission":{"asked_ttl_seconds":"#,
    r#"kind":"request.submitted","submission":{"collect_window":"#,
    r#","collect_window":"#,
    r#","context":{"sha256":""#,
    r#"","fingerprint":""#,
    r#"","idempotency_key":""#,
    r#"","on_behalf_of":{"issuer":""#,
    r#"","owner":{"group":""#,
    r#""},"owner":{"group":""#,
    r#"","owner":{"person":{"issuer":""#,
    r#""},"owner":{"person":{"issuer":""#,
    r#""},"pending_until":""#,
    r#""}},"pending_until":""#,
    r#"","reviewers":{""#,
    r#"","sealed":{"action":""#,
    r#"},"sealed":{"action":""#,
    r#"","definition":""#,
    r#"","parameters":{""#,
    r#"","parameters":{},"scope":{""#,
    r#""},"scope":{""#,
    r#"},"scope":{""#,
    r#"","scope":{""#,
    r#"}},"verdict":{"answer":"allow","bundle":""#,
    r#"}},"verdict":{"answer":"review","bundle":""#,
    r#"}},"verdict":{"answer":"deny","bundle":""#,
    r#"kind":"review.given","request":""#,
    r#"","review":{"at":""#,
    r#"","decision":"approve","digest":""#,
    r#"","decision":"deny","digest":""#,
    r#""},"decision":"approve","digest":""#,
    r#""},"decision":"deny","digest":""#,
    r#""],"reviewer":{"evidence":{"acr":""#,
    r#""],"reviewer":{"evidence":{"auth_time":""#,
    r#"","auth_time":""#,
    r#"","channel":"web"},"groups":[""#,
    r#""],"person":{"issuer":""#,
    r#"","kind":"grant.made","people":[{"issuer":""#,
    r#""},{"issuer":""#,
    r#"","kind":"review.refused","person":{"issuer":""#,
    r#"kind":"request.closed","outcome":""#,
    r#"","kind":"lease.intended","lease":""#,
    r#"","kind":"lease.live","lease":""#,
    r#"","kind":"lease.failed","lease":""#,
    r#"","kind":"lease.ending","lease":""#,
    r#"cause":"finished","kind":"lease.ending","lease":""#,
    r#"","kind":"lease.end_claimed","lease":""#,
    r#"","kind":"lease.end_failed","lease":""#,
    r#"","kind":"lease.cut_off","lease":""#,
    r#"kind":"lease.ended","lease":""#,
    r#"","proof":["login_refused","no_session","no_role"],"request":""#,
    r#"","outcome":"completed","proof":["login_refused","no_session","no_role"],"request":""#,
    r#"","report":{"exit_code":"#,
    r#"],"kind":"person.signed_in","person":{"issuer":""#,
    r#"kind":"person.signed_out","person":{"issuer":""#,
    r#"acknowledge_by":""#,
    r#"broker":""#,
    r#"agent":""#,
    r#"collect_until":""#,
    r#"roles":[""#,
    r#"kind":"lease.acknowledged","lease":""#,
];

/// Bytes by which a phrase is looked for.
const BEGINNING: usize = 5;
/// How many lists of phrases there are to look in.
const SHELVES: usize = 256;

/// The phrases by their shelf, the longest first.
static BY_SHELF: LazyLock<[Vec<(u8, &str)>; SHELVES]> = LazyLock::new(|| {
    let mut shelves = [const { Vec::new() }; SHELVES];
    for (phrase, number) in PHRASES.iter().copied().zip(0..) {
        let beginning = phrase.as_bytes().first_chunk();
        if let Some(shelf) = beginning.and_then(|it| shelves.get_mut(shelf(it))) {
            shelf.push((number, phrase));
        }
    }
    for shelf in &mut shelves {
        shelf.sort_by_key(|(_, phrase)| Reverse(phrase.len()));
    }
    shelves
});

/// The shelf of phrases that begin so.
fn shelf(beginning: &[u8; BEGINNING]) -> usize {
    let sum = beginning
        .iter()
        .fold(0_usize, |sum, byte| sum * 7 + usize::from(*byte));
    sum % SHELVES
}

/// The form that a store keeps of an entry's canonical bytes.
pub fn pack(bytes: Vec<u8>) -> Vec<u8> {
    let mut writer = Writer {
        out: Vec::with_capacity(bytes.len() / 2),
    };
    writer.all(&bytes);
    let packed = writer.out;
    // No entry begins so, but whatever did would be taken for the form.
    let misleading = bytes.first() == Some(&FORM);
    // What would not come back is not kept so, whatever went wrong.
    if (packed.len() < bytes.len() || misleading) && unpacked(&packed).as_ref() == Some(&bytes) {
        packed
    } else {
        bytes
    }
}

/// The canonical bytes of what [`pack`] returned. What is no such form, because somebody changed it, comes back as it
/// is: it will not have the hash that the log has for it.
pub fn unpack(kept: Vec<u8>) -> Vec<u8> {
    unpacked(&kept).unwrap_or(kept)
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn all(&mut self, bytes: &[u8]) {
        self.out.push(FORM);
        let mut rest = bytes;
        let (mut after_phrase, mut after_quote) = (false, false);
        while let Some((byte, after)) = rest.split_first() {
            if after_quote && let Some(length) = self.value(rest) {
                rest = rest.get(length..).unwrap_or_default();
                (after_phrase, after_quote) = (false, false);
                continue;
            }
            let may_begin = after_phrase || matches!(byte, b'{' | b'}' | b']' | b',' | b'"');
            if may_begin && let Some((number, phrase)) = phrase_at(rest) {
                self.out.push(PHRASES_FROM + number);
                rest = rest.get(phrase.len()..).unwrap_or_default();
                (after_phrase, after_quote) = (true, phrase.ends_with('"'));
                continue;
            }
            if !matches!(byte, 0x20..=0x7e) {
                self.out.push(ITSELF);
            }
            self.out.push(*byte);
            (after_phrase, after_quote) = (false, *byte == b'"');
            rest = after;
        }
    }

    /// Writes a hash, an id, an instant or a name of random digits that a text begins with; how long it was.
    fn value(&mut self, text: &[u8]) -> Option<usize> {
        let ends = |length: usize| text.get(length) == Some(&b'"');
        match text.first()? {
            b'r' | b'l' if ends(4 + DIGITS) => {
                let (prefix, digits) = text.split_at_checked(4)?;
                let kind = match prefix {
                    b"req_" => REQUEST,
                    b"lse_" => LEASE,
                    _ => return None,
                };
                let number = base32::number(digits.first_chunk()?)?;
                self.out.push(kind);
                self.out.extend(number.to_be_bytes());
                Some(4 + DIGITS)
            }
            b'0'..=b'9' if ends(24) => {
                let number = instant::digits(text.first_chunk()?)?;
                self.out.push(INSTANT);
                self.out.extend(number.to_be_bytes().iter().skip(1));
                Some(24)
            }
            b'0'..=b'9' | b'a'..=b'f' if ends(64) => self.hexadecimal::<32>(HASH, text.get(..64)?),
            b'0'..=b'9' | b'a'..=b'f' if ends(32) => self.hexadecimal::<16>(NAME, text.get(..32)?),
            _ => None,
        }
    }

    fn hexadecimal<const N: usize>(&mut self, kind: u8, digits: &[u8]) -> Option<usize> {
        let bytes = base16::bytes::<N>(digits)?;
        self.out.push(kind);
        self.out.extend(bytes);
        Some(digits.len())
    }
}

fn phrase_at(rest: &[u8]) -> Option<(u8, &'static str)> {
    let phrases = BY_SHELF.get(shelf(rest.first_chunk()?))?;
    let fits = |(_, phrase): &&(u8, &str)| rest.starts_with(phrase.as_bytes());
    phrases.iter().find(fits).copied()
}

/// Takes the packed form apart; nothing when it is none, or is of more than an entry may have.
fn unpacked(kept: &[u8]) -> Option<Vec<u8>> {
    let (FORM, mut rest) = kept.split_first().map(|(form, rest)| (*form, rest))? else {
        return None;
    };
    let mut out = Vec::with_capacity(LONGEST_ENTRY.min(3 * kept.len()));
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match *byte {
            HASH => out.extend(take::<32>(&mut rest)?.iter().copied().flat_map(pair_of)),
            NAME => out.extend(take::<16>(&mut rest)?.iter().copied().flat_map(pair_of)),
            kind @ (REQUEST | LEASE) => {
                let number = u128::from_be_bytes(*take(&mut rest)?);
                out.extend_from_slice(if kind == REQUEST { b"req_" } else { b"lse_" });
                out.extend_from_slice(&base32::digits(number));
            }
            INSTANT => {
                let mut number = [0; 8];
                let (_, digits) = number.split_at_mut(1);
                digits.copy_from_slice(take::<7>(&mut rest)?);
                out.extend_from_slice(&instant::text(u64::from_be_bytes(number)));
            }
            ITSELF => out.push(take::<1>(&mut rest)?[0]),
            PHRASES_FROM.. => {
                let phrase = PHRASES.get(usize::from(*byte - PHRASES_FROM))?;
                out.extend_from_slice(phrase.as_bytes());
            }
            0x20..=0x7e => out.push(*byte),
            _ => return None,
        }
        if out.len() > LONGEST_ENTRY {
            return None;
        }
    }
    Some(out)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOLDEN: &str = include_str!("../../tests/ledger/golden/entries.jsonl");

    #[test]
    fn every_kind_of_entry_takes_less_than_half_and_comes_back() {
        let (mut canonical, mut kept) = (0, 0);
        for line in GOLDEN.lines() {
            let packed = pack(line.as_bytes().to_vec());
            assert_eq!(packed.first(), Some(&FORM), "{line}");
            canonical += line.len();
            kept += packed.len();
            assert_eq!(unpack(packed), line.as_bytes());
        }
        assert!(kept * 2 < canonical, "{kept} of {canonical} bytes");
    }

    /// A code that changed its meaning would take every ledger with it.
    #[test]
    fn what_was_kept_once_is_read_for_ever() {
        let mut table = PHRASES.join("\n");
        table.push_str(&format!(
            "{FORM}{HASH}{REQUEST}{LEASE}{INSTANT}{NAME}{ITSELF}"
        ));
        let digest = crate::domain::Digest::of(table.as_bytes()).to_string();
        assert_eq!(
            digest,
            "0262435af5a7a33dbe282582c96ba3d884f8ebe92b98b9afc2dd573050c254c9"
        );
        let phrases: std::collections::BTreeSet<_> = PHRASES.iter().collect();
        assert_eq!(phrases.len(), PHRASES.len(), "each phrase once");
    }

    #[test]
    fn nothing_kept_grows_beyond_an_entry() {
        let bomb = [vec![FORM], vec![PHRASES_FROM + 108; 32_767]].concat();
        assert_eq!(unpack(bomb.clone()), bomb);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(unpack(pack(bytes.clone())), bytes);
        }

        #[test]
        fn any_change_to_what_is_kept_is_read_without_a_panic(
            line in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>(), byte in any::<u8>()
        ) {
            let lines: Vec<_> = GOLDEN.lines().collect();
            let line = line.get(&lines);
            let mut kept = pack(line.as_bytes().to_vec());
            let at = at.index(kept.len());
            kept[at] = byte;
            let _ = unpack(kept);
        }

        #[test]
        fn texts_that_look_like_values_come_back(
            text in "(req_|lse_)?[0-9a-z]{24,34}|[0-9a-fA-F]{32}|[0-9a-fA-F]{64}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{12}Z"
        ) {
            let bytes = format!("{{\"a\":\"{text}\"}}").into_bytes();
            prop_assert_eq!(unpack(pack(bytes.clone())), bytes);
        }
    }
}
