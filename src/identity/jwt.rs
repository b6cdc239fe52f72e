//! Signed JSON Web Tokens (compact JWS), read strictly.
//!
//! The header is never believed: the algorithm comes from the configuration, `kid` is only a key into one
//! issuer's set, `jku`, `x5u`, `x5c` and `jwk` are not looked at, `crit` refuses. Claims have one type each.
//! Time is the caller's, not the machine's.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::bytes;
use crate::domain::{Seconds, Time};

/// Largest token looked at. Checked before anything is split or decoded.
pub(crate) const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Clocks may differ by so much.
pub(crate) const LEEWAY: Seconds = Seconds(60);

/// What is wrong with a token. For our log only; outsiders learn that it was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("longer than 16 KiB")]
    TooLong,
    #[error("not three parts of base64url (an encrypted or unsecured token, perhaps)")]
    Shape,
    #[error("its header is not a JSON object")]
    Header,
    #[error("its algorithm is not the configured one")]
    Algorithm,
    #[error("it names critical header parameters")]
    Critical,
    #[error("its typ is not that of a plain JWT")]
    Type,
    #[error("it names no key")]
    NoKeyId,
    #[error("the issuer has no such key")]
    UnknownKey,
    #[error("its signature does not verify")]
    Signature,
    #[error("its claims are not a JSON object")]
    Claims,
    #[error("its issuer is not configured")]
    Issuer,
    #[error("its audience is not exactly this broker")]
    Audience,
    #[error("its subject is missing or not a text")]
    Subject,
    #[error("exp, iat or nbf is missing or not a number")]
    TimeType,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("it lives longer than the configuration allows")]
    TooLongLived,
    #[error("it is a token of another kind (logout, sign-in or key-bound)")]
    OtherKind,
    #[error("its jti is missing or was used before")]
    Replayed,
}

/// A token taken apart, with nothing verified yet.
pub(crate) struct Unverified<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    message: &'a str,
    signature: &'a str,
}

/// What the claims have to say to be accepted.
pub(crate) struct Expected<'a> {
    /// The exact audience, in each spelling it has.
    pub(crate) audience: &'a [&'a str],
    /// Longest `exp` minus `iat`.
    pub(crate) longest: Seconds,
    /// Now.
    pub(crate) now: Time,
}

/// Claims whose signature, audience and times hold.
pub(crate) struct Claims {
    all: Value,
    subject: String,
    expires: Time,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(crate) fn parse(token: &'a str) -> Result<Self, Flaw> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Flaw::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Flaw::Shape)?;
        let (header, claims) = message.split_once('.').ok_or(Flaw::Shape)?;
        if claims.contains('.') || bytes::decode(signature).is_none_or(|s| s.is_empty()) {
            return Err(Flaw::Shape);
        }
        Ok(Self {
            header: object(header, Flaw::Header)?,
            claims: object(claims, Flaw::Claims)?,
            message,
            signature,
        })
    }

    /// The `iss` it claims, only good for choosing whose keys to try.
    pub(crate) fn claimed_issuer(&self) -> Result<&str, Flaw> {
        text(&self.claims, "iss").ok_or(Flaw::Issuer)
    }

    /// The key it says it was signed with.
    pub(crate) fn key_id(&self) -> Result<&str, Flaw> {
        text(&self.header, "kid").ok_or(Flaw::NoKeyId)
    }

    /// Checks everything in the header that could make us read the token as something it is not.
    pub(crate) fn check_header(&self, algorithm: &str, types: &[&str]) -> Result<(), Flaw> {
        if text(&self.header, "alg") != Some(algorithm) {
            return Err(Flaw::Algorithm);
        }
        if self.header.contains_key("crit") || self.header.contains_key("b64") {
            return Err(Flaw::Critical);
        }
        match self.header.get("typ") {
            None => Ok(()),
            Some(Value::String(typ)) if types.iter().any(|t| t.eq_ignore_ascii_case(typ)) => Ok(()),
            Some(_) => Err(Flaw::Type),
        }
    }

    /// Verifies the signature with `key` and the claims against what is `expected`.
    pub(crate) fn verify(
        self,
        key: &DecodingKey,
        algorithm: Algorithm,
        expected: &Expected<'_>,
    ) -> Result<Claims, Flaw> {
        let message = self.message.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, message, key, algorithm) {
            Ok(true) => check_claims(self.claims, expected),
            Ok(false) | Err(_) => Err(Flaw::Signature),
        }
    }
}

fn check_claims(claims: Map<String, Value>, expected: &Expected<'_>) -> Result<Claims, Flaw> {
    let audience = match claims.get("aud") {
        Some(Value::Array(list)) => match list.as_slice() {
            [only] => only.as_str(),
            _ => None,
        },
        Some(value) => value.as_str(),
        None => None,
    };
    if audience.is_none_or(|audience| !expected.audience.contains(&audience)) {
        return Err(Flaw::Audience);
    }
    let subject = text(&claims, "sub").ok_or(Flaw::Subject)?.to_owned();
    let expires = time(&claims, "exp")?.ok_or(Flaw::TimeType)?;
    let issued = time(&claims, "iat")?.ok_or(Flaw::TimeType)?;
    let not_before = time(&claims, "nbf")?.unwrap_or(issued);
    let latest = expected.now.plus(LEEWAY);
    if expires.plus(LEEWAY) <= expected.now {
        return Err(Flaw::Expired);
    }
    if issued > latest || not_before > latest {
        return Err(Flaw::NotYet);
    }
    if expires <= issued || expires > issued.plus(expected.longest) {
        return Err(Flaw::TooLongLived);
    }
    // Logout tokens and security events carry `events`, interactive sign-ins a `nonce`; `cnf` binds the
    // token to a key whose possession nobody has proven here.
    if ["events", "nonce", "cnf"]
        .iter()
        .any(|c| claims.contains_key(*c))
    {
        return Err(Flaw::OtherKind);
    }
    Ok(Claims {
        all: Value::Object(claims),
        subject,
        expires,
    })
}

impl Claims {
    /// `sub`.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Until when the token could be presented again, clocks differing included.
    pub(crate) fn replayable_until(&self) -> Time {
        // One second more: `exp` is rounded down, and the moment itself still counts.
        self.expires.plus(LEEWAY).plus(Seconds(1))
    }

    /// The token's own id.
    pub(crate) fn id(&self) -> Option<&str> {
        self.all
            .get("jti")
            .and_then(Value::as_str)
            .filter(|id| !id.is_empty())
    }

    /// Whether the claim is there, is a text, and is exactly `value`. A `name` that starts with `/` is a
    /// JSON Pointer into nested claims (RFC 6901).
    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        let found = if name.starts_with('/') {
            self.all.pointer(name)
        } else {
            self.all.get(name)
        };
        found.and_then(Value::as_str) == Some(value)
    }
}

fn object(part: &str, flaw: Flaw) -> Result<Map<String, Value>, Flaw> {
    let bytes = bytes::decode(part).ok_or(Flaw::Shape)?;
    serde_json::from_slice(&bytes).map_err(|_| flaw)
}

fn text<'m>(map: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    map.get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// A NumericDate: a number (a text that looks like one is refused), absent is `None`.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Time>, Flaw> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = match (value.as_i64(), value.as_f64()) {
        (Some(whole), _) => whole,
        // Fractions of a second are allowed by RFC 7519 and dropped; out of range saturates.
        (None, Some(fraction)) => fraction as i64,
        (None, None) => return Err(Flaw::TimeType),
    };
    match u64::try_from(seconds) {
        Ok(seconds) => Ok(Some(Time::default().plus(Seconds(seconds)))),
        Err(_) => Err(Flaw::TimeType),
    }
}
