//! Request bodies, read strictly.
//!
//! In this order, so that no cheap call makes expensive work: media type, size, time, UTF-8, depth, and only
//! then JSON, in which a field may stand once and numbers are those every client can hold exactly.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::fields::{Fields, FromFields};
use super::problem::{Mistake, Problem};
use crate::domain::Digest;

/// Largest body.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of a JSON body.
pub const DEPTH_MAX: usize = 32;
/// Longest time a client may take to send a body.
pub const BODY_WAIT: Duration = Duration::from_secs(10);
/// The largest whole number that every JSON implementation holds exactly (2^53 - 1).
const WHOLE_MAX: u64 = (1 << 53) - 1;

/// A JSON body, checked field by field.
#[derive(Debug)]
pub struct Json<T> {
    /// What it says.
    pub value: T,
    /// SHA-256 of its canonical form.
    pub fingerprint: Digest,
}

impl<T: FromFields, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_media_type(request.headers(), "application/json")?;
        let bytes = read(request).await?;
        let value = parse(&bytes)?;
        let fingerprint = Digest::of_canonical(&value);
        Ok(Self {
            value: Fields::read(value)?,
            fingerprint,
        })
    }
}

/// No body, or an empty JSON object: a field that is sent is never silently ignored.
#[derive(Debug)]
pub struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let media_type = check_media_type(request.headers(), "application/json");
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return Ok(Self);
        }
        media_type?;
        Fields::read::<Nothing>(parse(&bytes)?).map(|Nothing| Self)
    }
}

struct Nothing;

impl FromFields for Nothing {
    const NAMES: &'static [&'static str] = &[];

    fn from_fields(_: &mut Fields) -> Option<Self> {
        Some(Self)
    }
}

/// Refuses any other media type, and compressed bodies.
pub fn check_media_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (essence, parameters) = given.split_once(';').unwrap_or((given, ""));
    let parameters = parameters.trim().to_ascii_lowercase();
    let utf8 = ["", "charset=utf-8", "charset=\"utf-8\""].contains(&parameters.as_str());
    if essence.trim().eq_ignore_ascii_case(wanted)
        && utf8
        && !headers.contains_key(header::CONTENT_ENCODING)
    {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("the body must be {wanted}, UTF-8, not compressed"),
        format!("Send it with `Content-Type: {wanted}`."),
    ))
}

/// Reads a body within [`BODY_BYTES_MAX`] and [`BODY_WAIT`]. A declared length over the limit is refused unread.
pub async fn read(request: Request) -> Result<Bytes, Problem> {
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_WAIT, collect(request.into_body())).await;
    collected.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!(
                "the body did not arrive within {} seconds",
                BODY_WAIT.as_secs()
            ),
            "Send it again, at once.",
        )
        .with_header(
            header::CONNECTION,
            axum::http::HeaderValue::from_static("close"),
        ))
    })
}

async fn collect(body: Body) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| malformed("it broke off"))?;
        if all.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("a body has at most {BODY_BYTES_MAX} bytes"),
        "Shorten it; long evidence belongs behind a link.",
    )
}

fn malformed(what: impl fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "invalid_json",
        format!("the body is not one JSON object in UTF-8: {what}"),
        "Send one JSON object.",
    )
}

/// Parses a JSON body strictly.
///
/// # Errors
/// A problem that says what is wrong and where.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "empty_body",
            "the body is empty",
            "Send one JSON object.",
        ));
    }
    std::str::from_utf8(bytes)
        .map_err(|error| malformed(format_args!("byte {} is not UTF-8", error.valid_up_to())))?;
    if depth(bytes) > DEPTH_MAX {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "too_deep",
            format!("the body nests deeper than {DEPTH_MAX} levels"),
            "Flatten it.",
        ));
    }
    let trail = Trail::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(&trail)
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value));
    value.map_err(|error| match trail.mistake.into_inner() {
        Some(mistake) => Problem::invalid(vec![mistake]),
        None => malformed(format_args!(
            "line {} column {}",
            error.line(),
            error.column()
        )),
    })
}

/// How deep brackets nest, strings left out. Linear, and independent of whether it is JSON at all.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Where the reader is, and the first mistake that JSON itself does not forbid.
#[derive(Default)]
struct Trail {
    at: RefCell<Vec<String>>,
    mistake: RefCell<Option<Mistake>>,
}

impl Trail {
    fn refuse<E: serde::de::Error>(&self, code: &str, detail: &str) -> E {
        let pointer = self
            .at
            .borrow()
            .iter()
            .fold(String::new(), |all, part| all + "/" + escape(part).as_str());
        *self.mistake.borrow_mut() = Some(Mistake {
            pointer,
            code: code.into(),
            detail: detail.into(),
        });
        E::custom(code)
    }
}

/// A part of a JSON Pointer, escaped (RFC 6901) and kept short.
pub(super) fn escape(part: &str) -> String {
    let part: String = part.chars().take(64).collect();
    part.replace('~', "~0").replace('/', "~1")
}

/// Reads any JSON value, refusing repeated names and numbers that are not exact everywhere.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Trail);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if value > WHOLE_MAX {
            return Err(self.0.refuse("invalid_value", NOT_EXACT));
        }
        Ok(value.into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > WHOLE_MAX {
            return Err(self.0.refuse("invalid_value", NOT_EXACT));
        }
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "2^53 - 1 is exact")]
        let exact = value.abs() <= WHOLE_MAX as f64;
        match Number::from_f64(value) {
            Some(number) if exact => Ok(Value::Number(number)),
            _ => Err(self.0.refuse("invalid_value", NOT_EXACT)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        loop {
            self.0.at.borrow_mut().push(all.len().to_string());
            let Some(item) = items.next_element_seed(self)? else {
                self.0.at.borrow_mut().pop();
                return Ok(Value::Array(all));
            };
            self.0.at.borrow_mut().pop();
            all.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.0.at.borrow_mut().push(name.clone());
            if all.contains_key(&name) {
                return Err(self
                    .0
                    .refuse("duplicate_field", "stands twice; send it once"));
            }
            let value = members.next_value_seed(self)?;
            self.0.at.borrow_mut().pop();
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

const NOT_EXACT: &str = "numbers go from -(2^53 - 1) to 2^53 - 1";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(text: &str) -> (String, String) {
        let problem = serde_json::to_value(parse(text.as_bytes()).unwrap_err()).unwrap();
        let pointer = &problem["errors"][0]["pointer"];
        (
            problem["code"].as_str().unwrap().into(),
            pointer.as_str().unwrap_or("-").into(),
        )
    }

    #[test]
    fn what_fits_is_read_as_it_stands() {
        let text = r#"{"a":[1,-2,1.5,true,null,"x\u0000\n[[["],"b":{"c":9007199254740991}}"#;
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            json!({"a": [1, -2, 1.5, true, null, "x\u{0}\n[[["], "b": {"c": 9_007_199_254_740_991_u64}})
        );
    }

    #[test]
    fn case_165_depth_is_measured_before_parsing_and_only_outside_strings() {
        let nested = |n: usize| "[".repeat(n) + "]".repeat(n).as_str();
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(code(&nested(DEPTH_MAX + 1)).0, "too_deep");
        assert_eq!(code(&"[".repeat(200_000)).0, "too_deep");
        assert_eq!(code(&"{\"a\":".repeat(40_000)).0, "too_deep");
        assert!(parse(br#"{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"["}"#).is_ok());
    }

    #[test]
    fn a_repeated_name_is_refused_with_its_place() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(code(r#"{"a":1,"a":1}"#), pair("duplicate_field", "/a"));
        let deep = r#"{"p":[0,{"x/y":1,"\u0078/y":2}]}"#;
        assert_eq!(code(deep), pair("duplicate_field", "/p/1/x~1y"));
    }

    #[test]
    fn numbers_that_clients_round_are_refused() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        for text in [
            "9007199254740992",
            "-9007199254740992",
            "1e300",
            "123456789012345678901234567890",
        ] {
            assert_eq!(
                code(&format!("{{\"n\":{text}}}")),
                pair("invalid_value", "/n"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for text in ["{", "{}x", "nul", "{\"a\":1e999}", "{'a':1}", "\u{feff}{}"] {
            assert_eq!(code(text).0, "invalid_json", "{text:?}");
        }
        let broken = parse(b"{\"a\":\"\xff\"}").unwrap_err();
        assert_eq!(broken.code(), "invalid_json");
        assert_eq!(parse(b"").unwrap_err().code(), "empty_body");
    }
}
