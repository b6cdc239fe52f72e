//! What a session may not do, said explicitly. Policies allow what they name and are silent about the rest, and a
//! resource's own policy can speak where they are silent: one that is open to everybody, or names the session. It
//! cannot overrule a denial. So everything outside a scope is denied: other actions, other resources, unmet conditions.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::{Effect, Policy, Statement};

/// Most statements that deny the unmet conditions of one action on one resource.
const MOST_BLOCKS: usize = 4;

/// Operator and key, with the values.
type Conditions = BTreeMap<(String, String), BTreeSet<String>>;

/// Denials that leave exactly a scope.
pub(super) struct Denials {
    /// Of every action that the scope does not name.
    pub(super) of_other_actions: Statement,
    /// Of what the scope does not reach with the actions it names; each with what stays possible without it, in words.
    pub(super) of_the_rest: Vec<(Statement, String)>,
    /// What stays possible because no statement denies it and nothing else, in words.
    pub(super) unsaid: Vec<String>,
}

/// One action as the scope allows it.
struct Allowed {
    /// As it was written first. IAM takes upper and lower case for the same, and so does this.
    spelling: String,
    /// Resources, and for each the conditions of the statements that name it.
    on: BTreeMap<String, Vec<Conditions>>,
}

/// The denials of all that these statements do not allow.
pub(super) fn outside(scope: &[Statement]) -> Denials {
    let mut allowed: BTreeMap<String, Allowed> = BTreeMap::new();
    let meaning = Policy::new(scope.to_vec()).meaning();
    for statement in meaning.into_iter().filter(|statement| statement.allows) {
        for action in &statement.actions {
            let entry = allowed
                .entry(action.to_ascii_lowercase())
                .or_insert_with(|| Allowed {
                    spelling: action.clone(),
                    on: BTreeMap::new(),
                });
            for resource in &statement.resources {
                let on = entry.on.entry(resource.clone()).or_default();
                on.push(statement.conditions.clone());
            }
        }
    }
    let actions = allowed.values().map(|action| action.spelling.as_str());
    let mut denials = Denials {
        of_other_actions: Statement::deny_other_actions(actions),
        of_the_rest: Vec::new(),
        unsaid: Vec::new(),
    };
    denials.add_other_resources(&allowed);
    denials.add_unmet_conditions(&allowed);
    denials
}

impl Denials {
    fn add_other_resources(&mut self, allowed: &BTreeMap<String, Allowed>) {
        let mut alike: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        for action in allowed.values() {
            let resources: Vec<&str> = action.on.keys().map(String::as_str).collect();
            if !resources.contains(&"*") {
                alike.entry(resources).or_default().push(&action.spelling);
            }
        }
        for (resources, actions) in alike {
            let words = format!("{} on other resources", actions.join(", "));
            let denial = Statement::deny_other_resources(actions, resources);
            self.of_the_rest.push((denial, words));
        }
    }

    fn add_unmet_conditions(&mut self, allowed: &BTreeMap<String, Allowed>) {
        let mut alike: BTreeMap<(Vec<&str>, Conditions), Vec<&str>> = BTreeMap::new();
        for action in allowed.values() {
            let mut of_action: BTreeMap<Conditions, Vec<&str>> = BTreeMap::new();
            for resource in action.on.keys() {
                match action.unmet(resource) {
                    Some(blocks) => blocks
                        .into_iter()
                        .for_each(|block| of_action.entry(block).or_default().push(resource)),
                    None => self.unsaid.push(format!(
                        "{} on {resource} where its conditions are not met",
                        action.spelling
                    )),
                }
            }
            for (block, resources) in of_action {
                let actions = alike.entry((resources, block)).or_default();
                actions.push(&action.spelling);
            }
        }
        for ((resources, block), actions) in alike {
            let words = format!("{} where its conditions are not met", actions.join(", "));
            let denial = Statement::new(Effect::Deny, actions, resources);
            let denial = block
                .into_iter()
                .fold(denial, |denial, ((operator, key), values)| {
                    denial.when(&operator, &key, values)
                });
            self.of_the_rest.push((denial, words));
        }
    }
}

impl Allowed {
    /// When it is not allowed on `resource`, though it is named: when one of these holds. `None` when that cannot be
    /// said for this resource as a whole.
    fn unmet(&self, resource: &str) -> Option<Vec<Conditions>> {
        let within = |other: &str| covers(resource, other) && !covers(other, resource);
        let reaching = self.on.iter().filter(|(other, _)| covers(other, resource));
        let reaching: Vec<&Conditions> = reaching.flat_map(|(_, of)| of).collect();
        if reaching.iter().any(|conditions| conditions.is_empty()) {
            return Some(Vec::new());
        }
        if self.on.keys().any(|other| within(other)) {
            return None;
        }
        // Not (a and b) and not (c and d): not a and not c, or not a and not d, and so on.
        let mut blocks = vec![Conditions::new()];
        for conditions in reaching {
            let mut more = Vec::new();
            for block in &blocks {
                for (place, values) in conditions {
                    more.push(with_unmet(block, place, values)?);
                }
            }
            more.sort();
            more.dedup();
            if more.len() > MOST_BLOCKS {
                return None;
            }
            blocks = more;
        }
        Some(blocks)
    }
}

/// The block, and that the condition does not hold. It does not hold either when the key is absent: the negated
/// operators and `…IfExists` say that.
fn with_unmet(
    block: &Conditions,
    (operator, key): &(String, String),
    values: &BTreeSet<String>,
) -> Option<Conditions> {
    let one = || {
        let mut all = values.iter();
        all.next().filter(|_| all.next().is_none())
    };
    let (operator, values) = match operator.as_str() {
        "StringEquals" => ("StringNotEquals", values.clone()),
        "StringLike" => ("StringNotLike", values.clone()),
        "IpAddress" => ("NotIpAddress", values.clone()),
        "NumericLessThanEquals" => {
            let most = one()?.clone();
            ("NumericGreaterThanIfExists", BTreeSet::from([most]))
        }
        "Bool" => {
            let not = if one()? == "true" { "false" } else { "true" };
            ("BoolIfExists", BTreeSet::from([not.to_owned()]))
        }
        _ => return None,
    };
    let mut block = block.clone();
    let place = (operator.to_owned(), key.clone());
    let there = block.entry(place).or_default();
    let single = operator.ends_with("IfExists") && !there.is_empty() && *there != values;
    // None of several values is one condition; two bounds are not.
    there.extend(values);
    (!single).then_some(block)
}

/// Whether a resource of a scope, exact or with an asterisk at its end, reaches all that another one reaches.
fn covers(wide: &str, narrow: &str) -> bool {
    let below = wide.strip_suffix('*');
    wide == narrow || below.is_some_and(|start| narrow.starts_with(start))
}
