//! C2SP signed notes: a text with signatures under it, and the Ed25519 keys that make and check them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hkdf;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::domain::Digest;

/// Signature type of a plain Ed25519 signature over the text.
const TYPE_ED25519: u8 = 1;
/// More signatures than any log has witnesses; a bound on work.
const MOST_SIGNATURES: usize = 100;
const SECRET_PREFIX: &str = "countersign-signing-key+";

/// What is wrong with a note or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key name with blanks, control characters or `+`.
    #[error(
        "key name {0:?} is not valid: use the log's URL without scheme, without blanks and `+`"
    )]
    KeyName(String),
    /// Not a verifier key.
    #[error(
        "not an Ed25519 verifier key: copy the whole line NAME+HASH+KEY as the log's operator published it"
    )]
    VerifyingKey,
    /// Not a signing key. Says nothing of the content.
    #[error("not a signing key: restore the key file from its backup")]
    SigningKey,
    /// Not a signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// No signature by the key that is trusted.
    #[error("no signature by {0}: check that the note and the verifier key belong to the same log")]
    Unsigned(String),
    /// A signature that claims to be by the key and is not.
    #[error("the signature by {0} is wrong: the text was changed or signed by another key")]
    BadSignature(String),
}

fn valid_name(name: &str) -> Result<(), NoteError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.chars().any(bad) {
        return Err(NoteError::KeyName(name.chars().take(80).collect()));
    }
    Ok(())
}

/// The public key of a log (or a witness), as `NAME+HASH+KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    public: [u8; 32],
}

impl VerifyingKey {
    /// The key's name: the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256 over name, line feed, type and key.
    fn id(&self) -> [u8; 4] {
        let mut bytes = self.name.clone().into_bytes();
        bytes.extend([b'\n', TYPE_ED25519]);
        bytes.extend(self.public);
        let [a, b, c, d, ..] = Digest::of(&bytes).0;
        [a, b, c, d]
    }

    /// Checks one signature, id and 64 bytes in base64, over `text`.
    pub(super) fn accepts(&self, text: &str, signature: &str) -> bool {
        let Ok(bytes) = STANDARD.decode(signature) else {
            return false;
        };
        let Some(signature) = bytes.strip_prefix(&self.id()) else {
            return false;
        };
        UnparsedPublicKey::new(&ED25519, &self.public)
            .verify(text.as_bytes(), signature)
            .is_ok()
    }

    /// The text of `note`, once this key has vouched for it. Other keys' signatures are ignored.
    ///
    /// # Errors
    /// When the note is malformed, this key did not sign it, or a signature in its name is wrong.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = split(note)?;
        let mut signed = false;
        for line in signatures {
            let (name, signature) = signature_line(line)?;
            let id: Vec<u8> = STANDARD
                .decode(signature)
                .map_err(|_| NoteError::Malformed("a signature is not base64"))?;
            if id.len() < 5 {
                return Err(NoteError::Malformed("a signature is too short"));
            }
            if name != self.name || !id.starts_with(&self.id()) {
                continue;
            }
            if !self.accepts(text, signature) {
                return Err(NoteError::BadSignature(self.name.clone()));
            }
            signed = true;
        }
        if signed {
            Ok(text)
        } else {
            Err(NoteError::Unsigned(self.name.clone()))
        }
    }
}

/// Text (with its last line feed) and signature lines.
fn split(note: &str) -> Result<(&str, Vec<&str>), NoteError> {
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    let at = note
        .rfind("\n\n")
        .ok_or(NoteError::Malformed("no empty line above the signatures"))?;
    let (text, rest) = note.split_at(at + 1);
    let lines = rest
        .strip_prefix('\n')
        .and_then(|rest| rest.strip_suffix('\n'))
        .ok_or(NoteError::Malformed("no line feed at the end"))?;
    let lines: Vec<_> = lines.split('\n').collect();
    if lines.len() > MOST_SIGNATURES {
        return Err(NoteError::Malformed("too many signatures"));
    }
    Ok((text, lines))
}

/// Name and base64 of one signature line.
fn signature_line(line: &str) -> Result<(&str, &str), NoteError> {
    let (name, signature) = line
        .strip_prefix("— ")
        .and_then(|rest| rest.split_once(' '))
        .ok_or(NoteError::Malformed(
            "a signature line is not `— NAME BASE64`",
        ))?;
    valid_name(name)?;
    Ok((name, signature))
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![TYPE_ED25519];
        key.extend(self.public);
        let id = hex::encode(self.id());
        write!(f, "{}+{id}+{}", self.name, STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::VerifyingKey);
        };
        valid_name(name)?;
        let key = STANDARD.decode(key).map_err(|_| NoteError::VerifyingKey)?;
        let public = key
            .strip_prefix(&[TYPE_ED25519])
            .and_then(|public| <[u8; 32]>::try_from(public).ok())
            .ok_or(NoteError::VerifyingKey)?;
        let key = Self {
            name: name.to_owned(),
            public,
        };
        if hex::encode(key.id()) == id {
            Ok(key)
        } else {
            Err(NoteError::VerifyingKey)
        }
    }
}

/// The log's signing key. Its secret can be taken out only by [`SigningKey::to_secret_text`].
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    verifying: VerifyingKey,
}

impl SigningKey {
    /// A key named `name` (the log's origin) from 32 random bytes that `fill` provides.
    ///
    /// # Errors
    /// When the name is not valid.
    pub fn generate(name: &str, fill: impl FnOnce(&mut [u8])) -> Result<Self, NoteError> {
        let mut seed = Zeroizing::new([0; 32]);
        fill(seed.as_mut());
        Self::from_seed(name, seed)
    }

    fn from_seed(name: &str, seed: Zeroizing<[u8; 32]>) -> Result<Self, NoteError> {
        valid_name(name)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
            .map_err(|_| NoteError::SigningKey)?;
        let public =
            <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| NoteError::SigningKey)?;
        let verifying = VerifyingKey {
            name: name.to_owned(),
            public,
        };
        Ok(Self {
            pair,
            seed,
            verifying,
        })
    }

    /// The content of the key file: `countersign-signing-key+NAME+HASH+SECRET` and a line feed.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let id = hex::encode(self.verifying.id());
        let seed = Zeroizing::new(STANDARD.encode(self.seed.as_ref()));
        let name = &self.verifying.name;
        let mut text = Zeroizing::new(String::with_capacity(name.len() + 128));
        for part in [SECRET_PREFIX, name, "+", &id, "+", &seed, "\n"] {
            text.push_str(part);
        }
        text
    }

    /// The key in a key file.
    ///
    /// # Errors
    /// When it is not what [`SigningKey::to_secret_text`] wrote.
    pub fn from_secret_text(text: &str) -> Result<Self, NoteError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let mut parts = text
            .strip_prefix(SECRET_PREFIX)
            .ok_or(NoteError::SigningKey)?
            .splitn(3, '+');
        let (Some(name), Some(id), Some(secret)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(NoteError::SigningKey);
        };
        let mut seed = Zeroizing::new([0; 32]);
        let read = Zeroizing::new(STANDARD.decode(secret).map_err(|_| NoteError::SigningKey)?);
        if read.len() != seed.len() {
            return Err(NoteError::SigningKey);
        }
        seed.copy_from_slice(&read);
        let key = Self::from_seed(name, seed)?;
        if hex::encode(key.verifying.id()) == id {
            Ok(key)
        } else {
            Err(NoteError::SigningKey)
        }
    }

    /// A secret of its own for `purpose`, from which nobody can tell the key (HKDF, RFC 5869).
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.seed.as_ref());
        let info = [purpose.as_bytes()];
        // Fails for more than 255 hashes only.
        if let Ok(expanded) = extracted.expand(&info, hkdf::HKDF_SHA256) {
            let _ = expanded.fill(secret.as_mut());
        }
        secret
    }

    /// The public half, to be published.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// Key id and signature over `text`, in base64.
    pub(super) fn signature(&self, text: &str) -> String {
        let mut bytes = self.verifying.id().to_vec();
        bytes.extend(self.pair.sign(text.as_bytes()).as_ref());
        STANDARD.encode(bytes)
    }

    /// `text`, which ends with a line feed, as a note under this key's `signature`.
    pub(super) fn note(&self, text: &str, signature: &str) -> String {
        format!("{text}\n— {} {signature}\n", self.verifying.name)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying)
    }
}
