//! What an AWS credential may do: statements of exact actions on resources given as parts. Nothing in it is a
//! pattern; where a pattern is needed, it is added here, behind a separator.

use serde::Deserialize;
use serde_json::Value;

use super::conditions::{WrittenCondition, is_listing};
use super::denial::{self, Denials};
use super::documents::session_policy;
use super::outlives;
use super::policy::{Effect, Policy, Statement};
pub(super) use super::resource::{Form, Place};
use super::resource::{MOST_ITEMS, Reader, Resource, WrittenResource, bounded, is_never};

const MOST_STATEMENTS: usize = 16;
/// STS's limit for the session policy.
pub(super) const LARGEST_POLICY: usize = 2_048;
/// Stands for the end of the lease where none is known, at its full length.
const SOME_INSTANT: &str = "2000-01-01T00:00:00Z";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    statements: Vec<WrittenStatement>,
    /// Whether the catalog knows that what its actions do may outlive the lease.
    #[serde(default)]
    outlives: bool,
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

/// A scope as it is understood, for people and for the policy.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The statements, and the denials of what they do not allow.
    statements: Vec<Statement>,
    /// The same in words, one fact a line.
    pub(super) words: Vec<String>,
    /// Whether some action is allowed on every resource.
    pub(super) everywhere: bool,
    /// What of it may outlive the lease, one fact a line.
    pub(super) outlives: Vec<String>,
    /// What is only not allowed, as there was no room or no way to deny it: one fact a line.
    pub(super) undenied: Vec<String>,
}

impl Scope {
    /// The session policy, for the end of the lease as IAM writes it.
    pub(super) fn policy(&self, expires: &str) -> Policy {
        session_policy(self.statements.clone(), expires)
    }

    /// What its statements say, without the denials of the rest.
    #[cfg(test)]
    pub(super) fn asked(&self) -> &[Statement] {
        let count = self.statements.iter().position(Statement::denies_others);
        self.statements
            .get(..count.unwrap_or(0))
            .unwrap_or_default()
    }

    fn size(&self) -> Result<usize, String> {
        Ok(self.policy(SOME_INSTANT).to_text()?.chars().count())
    }

    /// Adds the denials of what the scope does not allow, as many as there is room for.
    fn close(&mut self) -> Result<(), String> {
        let Denials {
            of_other_actions,
            of_the_rest,
            unsaid,
        } = denial::outside(&self.statements);
        self.undenied = unsaid;
        self.statements.push(of_other_actions);
        let size = self.size()?;
        if size > LARGEST_POLICY {
            return Err(format!(
                "the session policy would have {size} characters and AWS takes {LARGEST_POLICY}: name fewer actions or resources"
            ));
        }
        for (denial, without) in of_the_rest {
            self.statements.push(denial);
            if self.size()? > LARGEST_POLICY {
                self.statements.pop();
                self.undenied.push(without);
            }
        }
        Ok(())
    }
}

/// Reads a scope.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(super) fn read(scope: &Value, place: &Place, form: Form) -> Result<Scope, String> {
    let written: Written = serde_json::from_value(scope.clone()).map_err(|why| {
        format!("scope: {why}; an AWS scope is {{statements = [{{actions = [..], resources = [..], effect?, conditions?}}], outlives?}}")
    })?;
    bounded("statements", written.statements.len(), MOST_STATEMENTS)?;
    let mut read = Scope {
        statements: Vec::new(),
        words: Vec::new(),
        everywhere: false,
        outlives: Vec::new(),
        undenied: Vec::new(),
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
    match (written.outlives, read.outlives.first()) {
        (false, Some(first)) => {
            return Err(format!(
                "{first}: take it out, or write `outlives = true` in the scope, which reviewers are shown"
            ));
        }
        (true, None) => read
            .outlives
            .push("what its actions do may outlive the lease, as the catalog says".into()),
        _ => {}
    }
    read.close()?;
    Ok(read)
}

impl Reader<'_> {
    fn statement(&self, written: &WrittenStatement, scope: &mut Scope) -> Result<(), String> {
        let actions = &written.actions;
        bounded("actions", actions.len(), MOST_ITEMS)?;
        bounded("resources", written.resources.len(), MOST_ITEMS)?;
        actions.iter().try_for_each(|action| check_action(action))?;
        self.check_conditions(&written.conditions, actions)?;
        let effect = match written.effect {
            WrittenEffect::Allow => Effect::Allow,
            WrittenEffect::Deny => Effect::Deny,
        };
        if effect == Effect::Deny && !written.conditions.is_empty() {
            return Err(
                "a statement that denies has no conditions, as a call could avoid them: put them on what is allowed".into(),
            );
        }
        if effect == Effect::Allow {
            let outliving = actions.iter().filter_map(|action| {
                outlives::reason(action).map(|reason| format!("action {action} {reason}"))
            });
            scope.outlives.extend(outliving);
        }
        let mut arns = Vec::new();
        for written_resource in &written.resources {
            let resource = self.resource(written_resource)?;
            resource.suits(actions)?;
            scope.everywhere |= resource.arn == "*" && effect == Effect::Allow;
            scope.words.push(words(written, &resource));
            match resource.listed {
                Some((bucket, prefix)) if is_listing_of(actions) => {
                    if effect == Effect::Deny {
                        return Err(
                            "a denied listing has no prefix, as one without a prefix would show the same keys: deny it for the bucket, or allow the prefixes that may be listed".into(),
                        );
                    }
                    // The bucket is the resource; what limits the listing is a condition.
                    let statement = Statement::new(effect, actions, [bucket]);
                    let limited = statement.when("StringLike", "s3:prefix", [prefix]);
                    scope.statements.push(with(limited, &written.conditions));
                }
                _ => arns.push(resource.arn),
            }
        }
        if !arns.is_empty() {
            let statement = Statement::new(effect, actions, arns);
            scope.statements.push(with(statement, &written.conditions));
        }
        Ok(())
    }
}

/// What a statement says of one resource.
fn words(written: &WrittenStatement, resource: &Resource) -> String {
    let verb = match written.effect {
        WrittenEffect::Allow => "may call",
        WrittenEffect::Deny => "may never call",
    };
    let mut words = format!(
        "{verb} {} on {}",
        written.actions.join(", "),
        resource.words
    );
    for WrittenCondition {
        operator,
        key,
        values,
    } in &written.conditions
    {
        words.push_str(&format!(", when {key} {operator} {}", values.join(" or ")));
    }
    words
}

/// Whether these actions list a bucket, which [`Resource::suits`] makes true of all or none.
fn is_listing_of(actions: &[String]) -> bool {
    actions.iter().any(|action| is_listing(action))
}

fn with(statement: Statement, conditions: &[WrittenCondition]) -> Statement {
    conditions.iter().fold(statement, |statement, condition| {
        statement.when(
            &condition.operator,
            &condition.key,
            condition.values.iter().cloned(),
        )
    })
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
            partition: "aws",
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
            "",
            "a/b",
            "../b",
            "..",
            ".",
            "a//b",
            "/a",
            "a/",
            "a\nb",
            "a\u{0}",
            "a\u{85}",
            "a{b}",
            "a}",
            "日",
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
            let resource = json!({"bucket": "orders", "prefix": "b"});
            json!({"statements": [{"actions": ["s3:PutObject"], "resources": [resource], "conditions": [condition]}]})
        };
        let good =
            json!({"operator": "StringEquals", "key": "s3:x-amz-acl", "values": ["private"]});
        let scope = read(&under(good), &place(), Form::Rendered).unwrap();
        assert_eq!(
            scope.words,
            [
                "may call s3:PutObject on objects b/* of bucket orders, when s3:x-amz-acl StringEquals private"
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
            .map(|n| json!({"bucket": "orders", "key": format!("{long}{n}")}))
            .collect();
        let scope = json!({"statements": [{"actions": ["s3:GetObject"], "resources": resources}]});
        let error = read(&scope, &place(), Form::Template).unwrap_err();
        assert!(error.contains("AWS takes 2048"), "{error}");
    }
}
