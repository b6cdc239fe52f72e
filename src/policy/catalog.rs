//! Reads the actions of `catalog/*.toml`.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{EXACT, Fields, show, whole};
use super::mistake::{Findings, Source};
use super::scope;
use crate::domain::action::is_parameter_name;
use crate::domain::{Action, ActionName, GroupName, ParameterKind, ReviewRule, Seconds};
use crate::domain::{TargetName, Targets, TtlRule};

/// Most values a choice can have.
const MOST_CHOICES: usize = 256;
/// Longest text parameter when the catalog does not say.
const TEXT_LENGTH: usize = 100;
/// Longest text parameter at all.
const LONGEST_TEXT: i64 = 2000;
/// Most reviewers one group may have to provide.
const MOST_REVIEWERS: i64 = 20;

/// An action and where it was declared.
pub(super) struct Declared<'a> {
    pub(super) action: Action,
    pub(super) source: Source<'a>,
    pub(super) offset: usize,
}

/// The actions of all files.
#[derive(Default)]
pub(super) struct Actions<'a> {
    pub(super) declared: BTreeMap<ActionName, Declared<'a>>,
    /// Names of actions that have mistakes in them; policies about these are not judged further.
    pub(super) broken: BTreeSet<String>,
    /// A file could not be read at all, so nobody knows what names it has.
    pub(super) unreadable: bool,
}

/// Reads `[actions]` of one file into `actions`.
pub(super) fn read<'a>(
    source: Source<'a>,
    table: &DeTable<'_>,
    targets: &dyn Targets,
    actions: &mut Actions<'a>,
    findings: &mut Findings,
) {
    for (key, value) in table {
        let offset = key.span().start;
        let name = match key.get_ref().parse::<ActionName>() {
            Ok(name) => name,
            Err(error) => {
                let instead = "[actions.\"customers.export\"]";
                findings.mistake(source, offset, error.to_string(), instead);
                continue;
            }
        };
        if let Some(first) = actions.declared.get(&name) {
            let (line, _) = first.source.place(first.offset);
            let message = format!(
                "action {name} is declared twice; first in {}:{line}",
                first.source.file
            );
            findings.mistake(source, offset, message, "another name, or one of the two");
            continue;
        }
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("action {name} is not a table");
            findings.mistake(source, offset, message, format!("[actions.\"{name}\"]"));
            continue;
        };
        let fields = Fields::new(source, offset, format!("action {name}"), table);
        let before = findings.mistakes.len();
        let action = action(name.clone(), fields, targets, findings);
        if findings.mistakes.len() > before {
            actions.broken.insert(name.to_string());
        }
        if let Some(action) = action {
            let declared = Declared {
                action,
                source,
                offset,
            };
            actions.declared.insert(name, declared);
        }
    }
}

fn action(
    name: ActionName,
    mut fields: Fields<'_, '_>,
    targets: &dyn Targets,
    findings: &mut Findings,
) -> Option<Action> {
    let title = fields.text("title", "\"Export customers\"", findings);
    let description = fields.text(
        "description",
        "\"What it is for, in a sentence.\"",
        findings,
    );
    let target = fields.parsed::<TargetName>("target", "\"shop\"", findings);
    let longest_at_target = target.as_ref().and_then(|target| {
        let longest = targets.longest_ttl(target);
        if longest.is_none() {
            let message = format!("there is no target {target}");
            let instead = "a name from [targets] in countersign.toml";
            findings.mistake(fields.source, fields.at("target"), message, instead);
        }
        longest
    });
    let ttl = ttl(&mut fields, longest_at_target, findings);
    let parameters = fields
        .table(
            "parameters",
            format!("the parameters of {name}"),
            "a table",
            findings,
        )
        .map_or(Some(BTreeMap::new()), |table| parameters(&table, findings));
    let scope = fields.get("scope").map(|value| (value, value.span().start));
    let review = review(&mut fields, findings);
    let collect_window = fields.duration("collect_window", Some(Seconds(900)), findings);
    let (source, offset) = (fields.source, fields.offset);
    let Some((scope, scope_at)) = scope else {
        let instead = "scope = { roles = [\"a_role\"] }, in the words of the target";
        findings.mistake(
            source,
            offset,
            format!("action {name} has no `scope`"),
            instead,
        );
        fields.finish(findings);
        return None;
    };
    fields.finish(findings);
    let parameters = parameters?;
    let template = scope::read(source, scope, &parameters, findings);
    let action = Action {
        name,
        title: title?.into(),
        description: description?.into(),
        target: target?,
        parameters,
        scope: template?,
        ttl: ttl?,
        review: review?,
        collect_window: collect_window?,
    };
    longest_at_target?;
    scope::check_at_target(source, scope_at, &action, targets, findings);
    Some(action)
}

fn ttl(
    fields: &mut Fields<'_, '_>,
    longest_at_target: Option<Seconds>,
    findings: &mut Findings,
) -> Option<TtlRule> {
    let example = "{ default = \"10m\", longest = \"30m\" }";
    let mut table = fields.required_table("ttl", "ttl", example, findings)?;
    let default = table.duration("default", None, findings);
    let longest = table.duration("longest", None, findings);
    let (source, default_at, longest_at) = (table.source, table.at("default"), table.at("longest"));
    table.finish(findings);
    let (default, longest) = (default?, longest?);
    if default > longest {
        findings.mistake(
            source,
            default_at,
            format!("the default ttl {default} is longer than the longest, {longest}"),
            format!("default = \"{longest}\", or less"),
        );
        return None;
    }
    if let Some(limit) = longest_at_target.filter(|limit| longest > *limit) {
        findings.mistake(
            source,
            longest_at,
            format!("the longest ttl {longest} is more than the target can honour, {limit}"),
            format!("longest = \"{limit}\", or less"),
        );
        return None;
    }
    Some(TtlRule { default, longest })
}

fn review(fields: &mut Fields<'_, '_>, findings: &mut Findings) -> Option<ReviewRule> {
    let mut rule = ReviewRule {
        groups: BTreeMap::new(),
        expires: Seconds(3600),
        recheck_at_collect: false,
    };
    if fields.get("review").is_none() {
        return Some(rule);
    }
    let example = "{ groups = { support-leads = 1 }, expires = \"1h\" }";
    let mut table = fields.table("review", "review", example, findings)?;
    if let Some(groups) = table.table("groups", "groups", "{ support-leads = 1 }", findings) {
        for (key, value) in groups.entries() {
            let group = key.get_ref().parse::<GroupName>();
            let number = whole(value.get_ref()).filter(|n| (1..=MOST_REVIEWERS).contains(n));
            match (group, number.and_then(|n| u32::try_from(n).ok())) {
                (Ok(group), Some(number)) => {
                    rule.groups.insert(group, number);
                }
                (Err(error), _) => {
                    let instead = "the group as the identity provider writes it";
                    findings.mistake(groups.source, key.span().start, error.to_string(), instead);
                }
                (Ok(group), None) => {
                    let message = format!("group {group} must provide at least one reviewer");
                    let instead = format!("a whole number from 1 to {MOST_REVIEWERS}");
                    findings.mistake(groups.source, value.span().start, message, instead);
                }
            }
        }
    }
    let expires = table.duration("expires", Some(rule.expires), findings);
    let recheck = table.boolean("recheck_at_collect", findings);
    table.finish(findings);
    rule.expires = expires?;
    rule.recheck_at_collect = recheck.unwrap_or(false);
    Some(rule)
}

fn parameters(
    table: &Fields<'_, '_>,
    findings: &mut Findings,
) -> Option<BTreeMap<String, ParameterKind>> {
    let mut parameters = BTreeMap::new();
    let mut complete = true;
    for (key, value) in table.entries() {
        let name = key.get_ref();
        if !is_parameter_name(name) {
            let message = format!("`{}` cannot name a parameter", show(name));
            let instead = "a lower-case letter, then at most 39 of a-z 0-9 _";
            findings.mistake(table.source, key.span().start, message, instead);
            complete = false;
            continue;
        }
        match parameter(table.source, name, value, findings) {
            Some(kind) => {
                parameters.insert(name.to_string(), kind);
            }
            None => complete = false,
        }
    }
    complete.then_some(parameters)
}

fn parameter(
    source: Source<'_>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    findings: &mut Findings,
) -> Option<ParameterKind> {
    let example = "{ type = \"choice\", values = [\"de\", \"fr\"] }";
    let offset = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        let message = format!("parameter {name} is not a table");
        findings.mistake(source, offset, message, format!("{name} = {example}"));
        return None;
    };
    let mut fields = Fields::new(source, offset, format!("parameter {name}"), table);
    let kind = match fields.text("type", "\"choice\"", findings)? {
        "text" => text_kind(&mut fields, findings),
        "choice" => choice_kind(&mut fields, findings),
        "integer" => integer_kind(&mut fields, findings),
        "boolean" => Some(ParameterKind::Boolean),
        other => {
            let message = format!("parameter {name} has the unknown type `{}`", show(other));
            let instead = "type = \"text\", \"choice\", \"integer\" or \"boolean\"";
            findings.mistake(source, fields.at("type"), message, instead);
            return None;
        }
    };
    fields.finish(findings);
    kind
}

fn text_kind(fields: &mut Fields<'_, '_>, findings: &mut Findings) -> Option<ParameterKind> {
    let pattern = fields.text("pattern", "\"[a-z0-9-]+\"", findings);
    let length = match fields.get("max_length") {
        None => Some(TEXT_LENGTH),
        Some(value) => {
            let given = whole(value.get_ref()).filter(|n| (1..=LONGEST_TEXT).contains(n));
            if given.is_none() {
                let message = "`max_length` is not a length a text can have";
                let instead = format!("max_length = a whole number from 1 to {LONGEST_TEXT}");
                findings.mistake(fields.source, value.span().start, message, instead);
            }
            given.and_then(|n| usize::try_from(n).ok())
        }
    };
    let pattern = pattern?;
    let at = fields.at("pattern");
    let anchored = pattern.starts_with('^')
        || pattern.contains("\\A")
        || pattern.contains("\\z")
        || (pattern.ends_with('$') && !pattern.ends_with("\\$"));
    if anchored {
        let bare = pattern.trim_start_matches('^').trim_end_matches('$');
        let message = "the pattern has an anchor, but the whole value must match it anyway";
        findings.mistake(fields.source, at, message, format!("pattern = '{bare}'"));
        return None;
    }
    // It is wrapped when used, so it must be a whole expression on its own: `a)|(b` is not.
    if let Err(error) = regex_lite::Regex::new(pattern) {
        let message = format!("the pattern is not a regular expression: {error}");
        let instead = "pattern = '[a-z0-9-]+', in the syntax of Rust's regex-lite";
        findings.mistake(fields.source, at, message, instead);
        return None;
    }
    Some(ParameterKind::Text {
        pattern: pattern.into(),
        max_length: length?,
    })
}

fn choice_kind(fields: &mut Fields<'_, '_>, findings: &mut Findings) -> Option<ParameterKind> {
    let given = fields.texts("values", "[\"de\", \"fr\"]", findings)?;
    let mut values: Vec<String> = Vec::with_capacity(given.len());
    let mut complete = true;
    for value in given {
        let (at, value) = (value.span().start, value.into_inner());
        if value.is_empty() || value.chars().any(char::is_control) || values.contains(&value) {
            let message = format!(
                "the value \"{}\" is empty, repeated or has control characters",
                show(&value)
            );
            findings.mistake(fields.source, at, message, "each value once");
            complete = false;
        } else {
            values.push(value);
        }
    }
    if values.is_empty() || values.len() > MOST_CHOICES {
        let message = "a choice needs at least one value";
        let instead = format!("values = [\"de\", \"fr\"], at most {MOST_CHOICES} of them");
        findings.mistake(fields.source, fields.at("values"), message, instead);
        complete = false;
    }
    complete.then_some(ParameterKind::Choice { values })
}

fn integer_kind(fields: &mut Fields<'_, '_>, findings: &mut Findings) -> Option<ParameterKind> {
    let (has_min, has_max) = (fields.get("min").is_some(), fields.get("max").is_some());
    let (min, max) = (
        fields.integer("min", findings),
        fields.integer("max", findings),
    );
    if !has_min || !has_max {
        let message = "an integer needs both bounds";
        let instead = format!("min = 1, max = 1000, within -{EXACT} to {EXACT}");
        findings.mistake(fields.source, fields.offset, message, instead);
    }
    let (min, max) = (min?, max?);
    if min > max {
        let message = format!("the bounds are empty: {min} is more than {max}");
        let instead = format!("min = {max}, max = {min}");
        findings.mistake(fields.source, fields.at("min"), message, instead);
        return None;
    }
    Some(ParameterKind::Integer { min, max })
}
