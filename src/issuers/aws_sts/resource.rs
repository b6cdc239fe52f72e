//! Resources of a scope, given as parts. A part is exact and holds no separator, so that it cannot reach beside its
//! place; where IAM needs a pattern, it is added behind a separator.

use serde::Deserialize;

use super::arn::IamArn;
use super::conditions::is_listing;
use super::documents::NEVER;

/// Most items of any list.
pub(super) const MOST_ITEMS: usize = 32;
/// Longest part or value, in bytes: a key of S3.
pub(super) const LONGEST_PART: usize = 1_024;

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
    pub(super) partition: &'static str,
    pub(super) account: String,
    pub(super) region: String,
}

impl Place {
    /// Where `role` is, and agents work.
    pub(super) fn of(role: &IamArn, region: &str) -> Self {
        Self {
            partition: role.partition.name,
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
    kind: Kind,
}

/// What a resource is, where it matters which actions know such resources.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bucket,
    Object,
    Objects,
    Other,
}

impl Resource {
    /// Whether `actions` are about such a resource. What they do not know they would never be allowed, nor denied.
    pub(super) fn suits(&self, actions: &[String]) -> Result<(), String> {
        if self.kind == Kind::Other {
            return Ok(());
        }
        let listings = actions.iter().filter(|action| is_listing(action)).count();
        if self.kind == Kind::Objects && listings > 0 {
            if listings < actions.len() {
                return Err("s3:ListBucket with a prefix needs a statement of its own: the others act on objects".into());
            }
            return Ok(());
        }
        for action in actions {
            let small = action.to_ascii_lowercase();
            let Some(name) = small.strip_prefix("s3:") else {
                return Err(format!(
                    "action {action} knows no buckets: give it a statement of its own, with the resources of its service"
                ));
            };
            let of_bucket = name.contains("bucket");
            let of_object = !of_bucket && OF_OBJECTS.iter().any(|word| name.contains(word));
            match self.kind {
                Kind::Bucket if of_object => {
                    return Err(format!(
                        "action {action} is about objects: give `key` or `prefix` beside `bucket`"
                    ));
                }
                Kind::Object | Kind::Objects if of_bucket => {
                    return Err(format!(
                        "action {action} is about a bucket: give `bucket` alone, in a statement of its own"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Words in the names of actions on objects.
const OF_OBJECTS: [&str; 3] = ["object", "multipartupload", "bypassgovernance"];

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
                kind: Kind::Other,
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
        self.bucket_name(bucket)?;
        let of_bucket = format!("arn:{}:s3:::{bucket}", self.place.partition);
        match (prefix, key) {
            (None, None) => Ok(Resource {
                words: format!("bucket {bucket} itself"),
                arn: of_bucket,
                listed: None,
                kind: Kind::Bucket,
            }),
            (None, Some(key)) => {
                let key = self.key(key)?;
                Ok(Resource {
                    arn: format!("{of_bucket}/{key}"),
                    words: format!("object {key} of bucket {bucket}"),
                    listed: None,
                    kind: Kind::Object,
                })
            }
            (Some(prefix), None) => {
                let below = format!("{}/*", self.joined("prefix", prefix, "/")?);
                Ok(Resource {
                    arn: format!("{of_bucket}/{below}"),
                    words: format!("objects {below} of bucket {bucket}"),
                    listed: Some((of_bucket, below)),
                    kind: Kind::Objects,
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
        let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        if !region.bytes().all(plain) {
            return Err(format!(
                "region {region:?} is not one: write it as in ARNs, or \"\" where they have none"
            ));
        }
        if !digits && !["", "aws"].contains(&account) {
            return Err(format!(
                "account {account:?} is not one: write its twelve digits, or \"\" where ARNs have none"
            ));
        }
        if service == "s3" && region.is_empty() {
            return Err(
                "a bucket and its objects are written {bucket}, {bucket, prefix} or {bucket, key}"
                    .into(),
            );
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
            kind: Kind::Other,
        })
    }

    fn joined(&self, what: &str, parts: &Parts, separator: &str) -> Result<String, String> {
        let parts = parts.as_slice();
        bounded(what, parts.len(), MOST_ITEMS)?;
        for part in parts {
            self.part(what, part, separator)?;
        }
        Ok(parts.join(separator))
    }

    /// A key of S3. Beside its placeholders it may have empty parts: keys begin with `/`, end in it, or have two.
    fn key(&self, key: &Parts) -> Result<String, String> {
        let parts = key.as_slice();
        bounded("key", parts.len(), MOST_ITEMS)?;
        for part in parts {
            if !part.is_empty() || parts.len() == 1 {
                self.part("key", part, "/")?;
            }
        }
        Ok(parts.join("/"))
    }

    fn bucket_name(&self, name: &str) -> Result<(), String> {
        if is_placeholder(name) {
            return self.placeholder(name);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(3..=255).contains(&name.len()) || !name.bytes().all(plain) || is_dots(name) {
            return Err(format!(
                "bucket {name:?} is none: its name has 3 to 255 of A-Z a-z 0-9 . _ -"
            ));
        }
        Ok(())
    }

    /// One part of a resource: exact, and no separator in it, so that it cannot reach beside its place.
    fn part(&self, what: &str, text: &str, separator: &str) -> Result<(), String> {
        if is_placeholder(text) {
            return self.placeholder(text);
        }
        if text.contains(separator) {
            return Err(format!(
                "`{what}` has {text:?}, with the separator {separator} in it: write several parts as a list, or give another `separator`"
            ));
        }
        if text.len() > LONGEST_PART || is_dots(text) {
            return Err(format!(
                "`{what}` has {text:?}: each part has 1 to {LONGEST_PART} bytes and is not dots alone"
            ));
        }
        check_text(text).map_err(|why| format!("`{what}` has {text:?}: {why}"))
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

/// An exact text: of the characters that a session policy can have, without those that stand for others (`*`, `?`), that
/// begin a variable (`${`) or that mark placeholders.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    let writable = |c: char| matches!(c, ' '..='~' | '\u{a0}'..='\u{ff}');
    match text.chars().find(|&c| !writable(c)) {
        _ if text.is_empty() => return Err("it is empty".into()),
        Some(c) => return Err(format!("{c:?} cannot stand in a session policy")),
        None => {}
    }
    match text.chars().find(|&c| "*?{}".contains(c)) {
        Some(c) => Err(format!(
            "{c:?} could stand for something else: write the exact name"
        )),
        None => Ok(()),
    }
}

fn is_dots(text: &str) -> bool {
    text.bytes().all(|b| b == b'.')
}

/// Whether a service is one no session may ever use.
pub(super) fn is_never(service: &str) -> bool {
    let service = service.to_ascii_lowercase();
    NEVER
        .iter()
        .any(|never| never.strip_suffix(":*") == Some(&service))
}
