//! Conditions of a scope: those that say what they seem to say. They compare exactly, hold only when the key is there,
//! and are about something the action knows.

use std::net::IpAddr;

use serde::Deserialize;

use super::resource::{LONGEST_PART, MOST_ITEMS, Reader, bounded, check_text, is_placeholder};

/// Conditions that compare exactly and do not hold when the key is absent.
const OPERATORS: [&str; 4] = ["Bool", "IpAddress", "NumericLessThanEquals", "StringEquals"];
/// Keys with several values at a time, beside those whose name is a plural.
const SEVERAL: [&str; 6] = [
    "aws:calledvia",
    "aws:principalservicenameslist",
    "dynamodb:attributes",
    "dynamodb:leadingkeys",
    "lambda:layer",
    "s3:requestobjecttagkeys",
];
/// Keys that are instants: what ends a lease is its fence.
const INSTANTS: [&str; 4] = [
    "aws:currenttime",
    "aws:epochtime",
    "aws:mfaauthtime",
    "aws:tokenissuetime",
];
/// Keys only calls that list a bucket have.
const OF_LISTINGS: [&str; 3] = ["s3:delimiter", "s3:max-keys", "s3:prefix"];
/// Calls that list a bucket, and can be limited to a prefix of its keys.
const LISTINGS: [&str; 2] = ["s3:listbucket", "s3:listbucketversions"];

/// A condition as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCondition {
    pub(super) operator: String,
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

/// Whether an action lists a bucket.
pub(super) fn is_listing(action: &str) -> bool {
    LISTINGS.contains(&action.to_ascii_lowercase().as_str())
}

impl Reader<'_> {
    /// Checks the conditions of a statement about `actions`.
    pub(super) fn check_conditions(
        &self,
        conditions: &[WrittenCondition],
        actions: &[String],
    ) -> Result<(), String> {
        let mut seen = Vec::new();
        for condition in conditions {
            self.condition(condition, actions)?;
            let place = (&condition.operator, condition.key.to_ascii_lowercase());
            if seen.contains(&place) {
                return Err(format!(
                    "two conditions say {} of {}: of those only one would hold; list all its values in one",
                    condition.operator, condition.key
                ));
            }
            seen.push(place);
        }
        Ok(())
    }

    fn condition(&self, written: &WrittenCondition, actions: &[String]) -> Result<(), String> {
        let WrittenCondition {
            operator,
            key,
            values,
        } = written;
        if !OPERATORS.contains(&operator.as_str()) {
            return Err(format!(
                "operator {operator:?} is not offered: use one of {}; others match patterns, or hold when the key is absent",
                OPERATORS.join(", ")
            ));
        }
        check_key(operator, key, actions)?;
        let most = match operator.as_str() {
            "Bool" | "NumericLessThanEquals" => 1,
            _ => MOST_ITEMS,
        };
        bounded("values", values.len(), most)?;
        for value in values {
            if is_placeholder(value) {
                self.placeholder(value)?;
            } else {
                check_value(operator, value)?;
            }
        }
        Ok(())
    }
}

/// Whether a key is one, has one value at a time, and is known to all the actions.
fn check_key(operator: &str, key: &str, actions: &[String]) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":/_.+=@-".contains(&b);
    let small = key.to_ascii_lowercase();
    let mut parts = small.split([':', '/']);
    let (service, name) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    if service.is_empty() || name.is_empty() || key.len() > 128 || !key.bytes().all(plain) {
        return Err(format!(
            "condition key {key:?} is none: write it like s3:x-amz-acl"
        ));
    }
    let plural =
        name.ends_with('s') && !name.ends_with("ss") && operator != "NumericLessThanEquals";
    if plural || SEVERAL.contains(&small.as_str()) {
        return Err(format!(
            "condition key {key} can have several values at a time, and {operator} compares with one: name what is allowed by actions and resources instead"
        ));
    }
    if INSTANTS.contains(&small.as_str()) {
        return Err(format!(
            "condition key {key} is a time: the lease's own end is written by the broker; take the condition away"
        ));
    }
    if (operator == "IpAddress") != name.ends_with("sourceip") {
        return Err(format!(
            "condition key {key} and operator {operator} do not go together: IpAddress is for aws:SourceIp and aws:VpcSourceIp, and nothing else is for these"
        ));
    }
    let of = |action: &String| action.split(':').next() == Some(service);
    if service != "aws" && !actions.iter().all(of) {
        return Err(format!(
            "condition key {key} is unknown to some of {}, so that they would never be allowed: give the actions of {service} a statement of their own",
            actions.join(", ")
        ));
    }
    if OF_LISTINGS.contains(&small.as_str()) && !actions.iter().all(|action| is_listing(action)) {
        return Err(format!(
            "condition key {key} is known to s3:ListBucket and s3:ListBucketVersions only: give them a statement of their own"
        ));
    }
    Ok(())
}

fn check_value(operator: &str, value: &str) -> Result<(), String> {
    let sound = match operator {
        "Bool" => ["true", "false"].contains(&value),
        "NumericLessThanEquals" => value.parse::<u64>().is_ok(),
        "IpAddress" => is_network(value),
        _ => value.len() <= LONGEST_PART && check_text(value).is_ok(),
    };
    if sound {
        return Ok(());
    }
    let right = match operator {
        "Bool" => "true or false".to_owned(),
        "NumericLessThanEquals" => "a whole number".to_owned(),
        "IpAddress" => "an address or a network such as 192.0.2.0/24".to_owned(),
        _ => format!("an exact text of 1 to {LONGEST_PART} characters, without * ? {{ }}"),
    };
    Err(format!("condition value {value:?} must be {right}"))
}

fn is_network(value: &str) -> bool {
    let (address, bits) = match value.split_once('/') {
        Some((address, bits)) => (address, bits.parse::<u8>().ok()),
        None => (value, Some(0)),
    };
    match (address.parse::<IpAddr>(), bits) {
        (Ok(IpAddr::V4(_)), Some(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Some(bits)) => bits <= 128,
        _ => false,
    }
}
