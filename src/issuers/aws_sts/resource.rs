//! Resources of a scope, given as parts. A part is exact and holds no separator, so that it cannot reach beside its
//! place; where IAM needs a pattern, it is added behind a separator.

use serde::Deserialize;

use super::arn::IamArn;
use super::documents::NEVER;

/// Most items of any list.
pub(super) const MOST_ITEMS: usize = 32;
/// Longest part or value.
pub(super) const LONGEST_PART: usize = 256;

/// A resource; which fields stand together says what kind it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenResource {
    bucket: Option<String>,
    prefix: Option<Parts>,
    key: Option<Parts>,
    service: Option<String>,
    region: Option<String>,
    account: Option<String>,
    path: Option<Parts>,
    separator: Option<String>,
    #[serde(default)]
    and_below: bool,
    #[serde(default)]
    everything: bool,
}

/// One part, or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Parts {
    One(String),
    Many(Vec<String>),
}

impl Parts {
    fn as_slice(&self) -> &[String] {
        match self {
            Parts::One(one) => std::slice::from_ref(one),
            Parts::Many(many) => many,
        }
    }
}

/// Where ARNs of a scope are when it does not say.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) partition: String,
    pub(super) account: String,
    pub(super) region: String,
}

impl Place {
    /// Where `role` is, and agents work.
    pub(super) fn of(role: &IamArn, region: &str) -> Self {
        Self {
            partition: role.partition.clone(),
            account: role.account.clone(),
            region: region.to_owned(),
        }
    }
}

/// Whether placeholders may stand where values go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing is left to fill in.
    Rendered,
    /// `{name}` stands for itself.
    Template,
}

/// Whether `text` is a placeholder such as `{customer}`.
pub(super) fn is_placeholder(text: &str) -> bool {
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

pub(super) fn bounded(what: &str, count: usize, most: usize) -> Result<(), String> {
    if count == 0 || count > most {
        return Err(format!("`{what}` must list 1 to {most}, not {count}"));
    }
    Ok(())
}

/// Reads the parts of a scope.
pub(super) struct Reader<'a> {
    pub(super) place: &'a Place,
    pub(super) form: Form,
}

/// A resource: its ARN, in words, and the prefix of keys it is limited to when it is a bucket.
pub(super) struct Resource {
    pub(super) arn: String,
    pub(super) words: String,
    pub(super) listed: Option<(String, String)>,
}

impl Reader<'_> {
    pub(super) fn resource(&self, written: &WrittenResource) -> Result<Resource, String> {
        let other = written.region.is_some()
            || written.account.is_some()
            || written.separator.is_some()
            || written.and_below;
        match written {
            WrittenResource {
                everything: true,
                bucket: None,
                prefix: None,
                key: None,
                service: None,
                path: None,
                ..
            } if !other => Ok(Resource {
                arn: "*".into(),
                words: "everything the role reaches".into(),
                listed: None,
            }),
            WrittenResource {
                bucket: Some(bucket),
                prefix,
                key,
                service: None,
                path: None,
                everything: false,
                ..
            } if !other => self.bucket(bucket, prefix.as_ref(), key.as_ref()),
            WrittenResource {
                service: Some(service),
                path: Some(path),
                bucket: None,
                prefix: None,
                key: None,
                everything: false,
                ..
            } => self.other(service, path, written),
            _ => Err(
                "a resource is {bucket}, {bucket, prefix}, {bucket, key}, {service, path, region?, account?, separator?, and_below?} or {everything = true}"
                    .into(),
            ),
        }
    }

    fn bucket(
        &self,
        bucket: &str,
        prefix: Option<&Parts>,
        key: Option<&Parts>,
    ) -> Result<Resource, String> {
        self.part("bucket", bucket)?;
        let of_bucket = format!("arn:{}:s3:::{bucket}", self.place.partition);
        match (prefix, key) {
            (None, None) => Ok(Resource {
                words: format!("bucket {bucket} itself"),
                arn: of_bucket,
                listed: None,
            }),
            (None, Some(key)) => {
                let key = self.joined("key", key, "/")?;
                Ok(Resource {
                    arn: format!("{of_bucket}/{key}"),
                    words: format!("object {key} of bucket {bucket}"),
                    listed: None,
                })
            }
            (Some(prefix), None) => {
                let below = format!("{}/*", self.joined("prefix", prefix, "/")?);
                Ok(Resource {
                    arn: format!("{of_bucket}/{below}"),
                    words: format!("objects {below} of bucket {bucket}"),
                    listed: Some((of_bucket, below)),
                })
            }
            (Some(_), Some(_)) => {
                Err("a resource has `prefix` or `key`, not both: give one of them".into())
            }
        }
    }

    fn other(
        &self,
        service: &str,
        path: &Parts,
        written: &WrittenResource,
    ) -> Result<Resource, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if service.is_empty() || !service.bytes().all(plain) || is_never(service) {
            return Err(format!(
                "service {service:?} cannot be in a scope: name one as in ARNs, such as dynamodb"
            ));
        }
        let separator = written.separator.as_deref().unwrap_or("/");
        if !["/", ":"].contains(&separator) {
            return Err(format!(
                "separator {separator:?} must be \"/\" or \":\", as in the service's ARNs"
            ));
        }
        let region = written.region.as_deref().unwrap_or(&self.place.region);
        let account = written.account.as_deref().unwrap_or(&self.place.account);
        for (what, text) in [("region", region), ("account", account)] {
            if !text.bytes().all(plain) {
                return Err(format!(
                    "{what} {text:?} is not one: write it as in ARNs, or \"\" where they have none"
                ));
            }
        }
        let mut path = self.joined("path", path, separator)?;
        if written.and_below {
            path = format!("{path}{separator}*");
        }
        let arn = format!(
            "arn:{}:{service}:{region}:{account}:{path}",
            self.place.partition
        );
        Ok(Resource {
            words: arn.clone(),
            arn,
            listed: None,
        })
    }

    fn joined(&self, what: &str, parts: &Parts, separator: &str) -> Result<String, String> {
        let parts = parts.as_slice();
        bounded(what, parts.len(), MOST_ITEMS)?;
        parts.iter().try_for_each(|part| self.part(what, part))?;
        Ok(parts.join(separator))
    }

    /// One part of a resource: exact, and no separator in it, so that it cannot reach beside its place.
    fn part(&self, what: &str, text: &str) -> Result<(), String> {
        if is_placeholder(text) {
            return self.placeholder(text);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._=@+,-".contains(&b);
        let dots = text.bytes().all(|b| b == b'.');
        if text.len() > LONGEST_PART || dots || !text.bytes().all(plain) {
            return Err(format!(
                "`{what}` has {text:?}: each part is 1 to {LONGEST_PART} of A-Z a-z 0-9 . _ = @ + , - without / (write several as a list)"
            ));
        }
        Ok(())
    }

    pub(super) fn placeholder(&self, text: &str) -> Result<(), String> {
        match self.form {
            Form::Template => Ok(()),
            Form::Rendered => Err(format!(
                "{text} was never filled in: render the scope first"
            )),
        }
    }
}

/// Whether a service is one no session may ever use.
pub(super) fn is_never(service: &str) -> bool {
    let service = service.to_ascii_lowercase();
    NEVER
        .iter()
        .any(|never| never.strip_suffix(":*") == Some(&service))
}
