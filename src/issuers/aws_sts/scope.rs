//! What an AWS credential may do: statements of exact actions on resources given as parts. Nothing in it is a
//! pattern; where a pattern is needed, it is added here, behind a separator.

use serde::Deserialize;
use serde_json::Value;

use super::arn::IamArn;
use super::documents::{NEVER, session_policy};
use super::policy::{Effect, Policy, Statement};

const MOST_STATEMENTS: usize = 16;
const MOST_ITEMS: usize = 32;
const LONGEST_PART: usize = 256;
/// STS's limit for the session policy.
pub(super) const LARGEST_POLICY: usize = 2_048;
/// Actions on a bucket that can be limited to a prefix of its keys.
const LISTING: [&str; 2] = ["s3:ListBucket", "s3:ListBucketVersions"];
/// Conditions that compare exactly and do not hold when the key is absent.
const OPERATORS: [&str; 4] = ["Bool", "IpAddress", "NumericLessThanEquals", "StringEquals"];
/// Stands for the end of the lease where none is known, at its full length.
const SOME_INSTANT: &str = "2000-01-01T00:00:00Z";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    statements: Vec<WrittenStatement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStatement {
    #[serde(default)]
    effect: WrittenEffect,
    actions: Vec<String>,
    resources: Vec<WrittenResource>,
    #[serde(default)]
    conditions: Vec<WrittenCondition>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenEffect {
    #[default]
    Allow,
    Deny,
}

/// A resource; which fields stand together says what kind it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenResource {
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
enum Parts {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCondition {
    operator: String,
    key: String,
    values: Vec<String>,
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

/// A scope as it is understood, for people and for the policy.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The statements.
    pub(super) statements: Vec<Statement>,
    /// The same in words, one fact a line.
    pub(super) words: Vec<String>,
    /// Whether some action is allowed on every resource.
    pub(super) everywhere: bool,
}

impl Scope {
    /// The session policy, for the end of the lease as IAM writes it.
    pub(super) fn policy(&self, expires: &str) -> Policy {
        session_policy(self.statements.clone(), expires)
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
fn is_placeholder(text: &str) -> bool {
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

/// Reads a scope.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(super) fn read(scope: &Value, place: &Place, form: Form) -> Result<Scope, String> {
    let written: Written = serde_json::from_value(scope.clone()).map_err(|why| {
        format!("scope: {why}; an AWS scope is {{statements = [{{actions = [..], resources = [..], effect?, conditions?}}]}}")
    })?;
    bounded("statements", written.statements.len(), MOST_STATEMENTS)?;
    let mut read = Scope {
        statements: Vec::new(),
        words: Vec::new(),
        everywhere: false,
    };
    let reader = Reader { place, form };
    for statement in &written.statements {
        reader.statement(statement, &mut read)?;
    }
    if written
        .statements
        .iter()
        .all(|s| s.effect == WrittenEffect::Deny)
    {
        return Err("every statement denies: give at least one without `effect = \"deny\"`".into());
    }
    let size = read.policy(SOME_INSTANT).to_text()?.chars().count();
    if size > LARGEST_POLICY {
        return Err(format!(
            "the session policy would have {size} characters and AWS takes {LARGEST_POLICY}: name fewer actions or resources"
        ));
    }
    Ok(read)
}

fn bounded(what: &str, count: usize, most: usize) -> Result<(), String> {
    if count == 0 || count > most {
        return Err(format!("`{what}` must list 1 to {most}, not {count}"));
    }
    Ok(())
}

struct Reader<'a> {
    place: &'a Place,
    form: Form,
}

/// A resource: its ARN, in words, and the prefix of keys it is limited to when it is a bucket.
struct Resource {
    arn: String,
    words: String,
    listed: Option<(String, String)>,
}

impl Reader<'_> {
    fn statement(&self, written: &WrittenStatement, scope: &mut Scope) -> Result<(), String> {
        bounded("actions", written.actions.len(), MOST_ITEMS)?;
        bounded("resources", written.resources.len(), MOST_ITEMS)?;
        written
            .actions
            .iter()
            .try_for_each(|action| check_action(action))?;
        let (effect, verb) = match written.effect {
            WrittenEffect::Allow => (Effect::Allow, "may call"),
            WrittenEffect::Deny => (Effect::Deny, "may never call"),
        };
        let listings = written
            .actions
            .iter()
            .filter(|action| LISTING.contains(&action.as_str()))
            .count();
        let mut conditions = Vec::new();
        for condition in &written.conditions {
            conditions.push(self.condition(condition)?);
        }
        let mut arns = Vec::new();
        let actions = written.actions.join(", ");
        let mut under = String::new();
        for (operator, key, values) in &conditions {
            under.push_str(&format!(", when {key} {operator} {}", values.join(" or ")));
        }
        for resource in &written.resources {
            let resource = self.resource(resource)?;
            scope.everywhere |= resource.arn == "*" && effect == Effect::Allow;
            scope
                .words
                .push(format!("{verb} {actions} on {}{under}", resource.words));
            match resource.listed {
                Some((bucket, prefix)) if listings > 0 => {
                    if listings < written.actions.len() {
                        return Err(
                            "s3:ListBucket with a prefix needs a statement of its own: the others act on objects".into(),
                        );
                    }
                    // The bucket is the resource; what limits the listing is a condition.
                    let statement = Statement::new(effect, &written.actions, [bucket]);
                    let limited = statement.when("StringLike", "s3:prefix", [prefix]);
                    scope.statements.push(with(limited, &conditions));
                }
                _ => arns.push(resource.arn),
            }
        }
        if !arns.is_empty() {
            let statement = Statement::new(effect, &written.actions, arns);
            scope.statements.push(with(statement, &conditions));
        }
        Ok(())
    }

    fn resource(&self, written: &WrittenResource) -> Result<Resource, String> {
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

    fn placeholder(&self, text: &str) -> Result<(), String> {
        match self.form {
            Form::Template => Ok(()),
            Form::Rendered => Err(format!(
                "{text} was never filled in: render the scope first"
            )),
        }
    }

    fn condition<'w>(
        &self,
        written: &'w WrittenCondition,
    ) -> Result<(&'w str, &'w str, &'w [String]), String> {
        let WrittenCondition {
            operator,
            key,
            values,
        } = written;
        if !OPERATORS.contains(&operator.as_str()) {
            return Err(format!(
                "operator {operator:?} is not offered: use one of {}",
                OPERATORS.join(", ")
            ));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b":/_-".contains(&b);
        if !key.contains(':') || key.len() > 128 || !key.bytes().all(plain) {
            return Err(format!(
                "condition key {key:?} is none: write it like s3:x-amz-acl"
            ));
        }
        bounded("values", values.len(), MOST_ITEMS)?;
        for value in values {
            if is_placeholder(value) {
                self.placeholder(value)?;
                continue;
            }
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._=@+,:/-".contains(&b);
            if value.is_empty() || value.len() > LONGEST_PART || !value.bytes().all(plain) {
                return Err(format!(
                    "condition value {value:?} must be 1 to {LONGEST_PART} of A-Z a-z 0-9 . _ = @ + , : / -"
                ));
            }
        }
        Ok((operator, key, values))
    }
}

fn with(statement: Statement, conditions: &[(&str, &str, &[String])]) -> Statement {
    conditions
        .iter()
        .fold(statement, |statement, (operator, key, values)| {
            statement.when(operator, key, values.iter().cloned())
        })
}

/// Whether a service is one no session may ever use.
fn is_never(service: &str) -> bool {
    let service = service.to_ascii_lowercase();
    NEVER
        .iter()
        .any(|never| never.strip_suffix(":*") == Some(&service))
}

fn check_action(action: &str) -> Result<(), String> {
    let name = |b: u8| b.is_ascii_alphanumeric();
    let service = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let sound = action.split_once(':').is_some_and(|(before, after)| {
        !before.is_empty()
            && before.bytes().all(service)
            && !after.is_empty()
            && after.bytes().all(name)
    });
    if !sound || action.len() > 128 {
        return Err(format!(
            "action {action:?} is not one exact action: write each like s3:GetObject, without wildcards or parameters"
        ));
    }
    let before = action.split(':').next().unwrap_or_default();
    if is_never(before) {
        return Err(format!(
            "action {action} could outlive or widen the lease: no scope may have {before}:*"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place() -> Place {
        Place {
            partition: "aws".into(),
            account: "111111111111".into(),
            region: "eu-central-1".into(),
        }
    }

    fn of(actions: Value, resource: Value) -> Value {
        json!({"statements": [{"actions": actions, "resources": [resource]}]})
    }

    #[test]
    fn a_template_is_checked_and_never_minted() {
        let template = of(
            json!(["s3:GetObject"]),
            json!({"bucket": "orders", "prefix": ["exports", "{customer}"]}),
        );
        let scope = read(&template, &place(), Form::Template).unwrap();
        assert_eq!(
            scope.words,
            ["may call s3:GetObject on objects exports/{customer}/* of bucket orders"]
        );
        assert!(read(&template, &place(), Form::Rendered).is_err());
    }

    #[test]
    fn case_085_wildcards_and_paths_are_refused() {
        for name in [
            "f*",
            "*.*",
            "foo?",
            "*",
            "?",
            "${aws:username}",
            "a$b",
            "",
            "a/b",
            "../b",
            "..",
            ".",
            "a//b",
            "/a",
            "a/",
            "a\\b",
            "a\"b",
            "a'b",
            "a b",
            "a\nb",
            "a\u{0}",
            "a:b",
            "é",
            "a{b}",
        ] {
            for resource in [
                json!({"bucket": "orders", "prefix": name}),
                json!({"bucket": "orders", "prefix": ["exports", name]}),
                json!({"bucket": "orders", "key": name}),
                json!({"bucket": name}),
                json!({"service": "dynamodb", "path": ["table", name]}),
                json!({"service": "sqs", "path": name}),
            ] {
                let scope = of(json!(["s3:GetObject"]), resource);
                assert!(read(&scope, &place(), Form::Template).is_err(), "{scope}");
            }
        }
    }

    #[test]
    fn case_087_actions_are_exact_and_harmless() {
        let bucket = json!({"bucket": "orders"});
        for actions in [
            json!([]),
            json!(["*"]),
            json!(["s3:*"]),
            json!(["s3:Get*"]),
            json!(["s3:GetObject", "s3:Put?bject"]),
            json!(["{action}"]),
            json!(["iam:GetUser"]),
            json!(["IAM:GetUser"]),
            json!(["sts:AssumeRole"]),
            json!(["organizations:ListRoots"]),
            json!("s3:GetObject"),
        ] {
            let scope = of(actions, bucket.clone());
            assert!(read(&scope, &place(), Form::Template).is_err(), "{scope}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let action = json!(["s3:GetObject"]);
        for wrong in [
            json!({}),
            json!({"statements": []}),
            json!({"statements": [{"actions": ["s3:GetObject"], "resources": []}]}),
            json!({"statements": [{"not_actions": ["s3:GetObject"], "resources": [{"bucket": "a"}]}]}),
            json!({"statements": [{"actions": ["s3:GetObject"], "not_resources": [{"bucket": "a"}]}]}),
            json!({"statements": [{"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::a"]}]}),
            json!({"statements": [{"effect": "deny", "actions": ["s3:GetObject"], "resources": [{"bucket": "a"}]}]}),
            of(
                action.clone(),
                json!({"bucket": "a", "prefix": "b", "key": "c"}),
            ),
            of(
                action.clone(),
                json!({"bucket": "a", "region": "eu-central-1"}),
            ),
            of(action.clone(), json!({"prefix": "b"})),
            of(action.clone(), json!({"bucket": "a", "everything": true})),
            of(
                action.clone(),
                json!({"service": "iam", "path": ["role", "a"]}),
            ),
            of(
                action.clone(),
                json!({"service": "{service}", "path": ["a"]}),
            ),
            of(
                action.clone(),
                json!({"service": "sqs", "path": ["a"], "region": "*"}),
            ),
            of(
                action.clone(),
                json!({"service": "sqs", "path": ["a"], "separator": "*"}),
            ),
            of(action, json!({"everything": false})),
            of(
                json!(["s3:ListBucket", "s3:GetObject"]),
                json!({"bucket": "a", "prefix": "b"}),
            ),
        ] {
            assert!(read(&wrong, &place(), Form::Template).is_err(), "{wrong}");
        }
    }

    #[test]
    fn conditions_compare_exactly() {
        let under = |condition: Value| {
            let resource = json!({"bucket": "a", "prefix": "b"});
            json!({"statements": [{"actions": ["s3:PutObject"], "resources": [resource], "conditions": [condition]}]})
        };
        let good =
            json!({"operator": "StringEquals", "key": "s3:x-amz-acl", "values": ["private"]});
        let scope = read(&under(good), &place(), Form::Rendered).unwrap();
        assert_eq!(
            scope.words,
            [
                "may call s3:PutObject on objects b/* of bucket a, when s3:x-amz-acl StringEquals private"
            ]
        );
        for wrong in [
            json!({"operator": "StringLike", "key": "s3:x-amz-acl", "values": ["a"]}),
            json!({"operator": "StringEqualsIfExists", "key": "s3:x-amz-acl", "values": ["a"]}),
            json!({"operator": "StringEquals", "key": "acl", "values": ["a"]}),
            json!({"operator": "StringEquals", "key": "s3:x-amz-acl", "values": []}),
            json!({"operator": "StringEquals", "key": "s3:x-amz-acl", "values": ["${aws:username}"]}),
            json!({"operator": "StringEquals", "key": "s3:x-amz-acl", "values": ["*"]}),
        ] {
            assert!(
                read(&under(wrong.clone()), &place(), Form::Rendered).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn case_089_a_policy_over_the_limit_is_refused_before_it_is_sent() {
        let long = "a".repeat(200);
        let resources: Vec<_> = (0..8)
            .map(|n| json!({"bucket": format!("{long}{n}")}))
            .collect();
        let scope = json!({"statements": [{"actions": ["s3:GetObject"], "resources": resources}]});
        let error = read(&scope, &place(), Form::Template).unwrap_err();
        assert!(error.contains("AWS takes 2048"), "{error}");
    }
}
