//! `countersign actions`: what can be asked for.

use clap::Args;
use countersign_client::ActionView;
use serde_json::Value;

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::output::columns;
use super::parameters::{hint, unknown_action};
use super::text::spell;

/// `countersign actions`.
#[derive(Args, Debug)]
pub(crate) struct Actions {
    /// Show only this one, with its parameters.
    name: Option<String>,
}

impl Actions {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let actions = global.client()?.actions().await?;
        if let Some(name) = &self.name {
            let action = actions
                .iter()
                .find(|action| action.name == *name)
                .ok_or_else(|| unknown_action(name, &actions))?;
            if output.json {
                output.object(action)?
            } else {
                output.facts(&facts(action))?
            }
            return Ok(Exit::Ok);
        }
        if output.json {
            for action in &actions {
                output.object(action)?;
            }
            return Ok(Exit::Ok);
        }
        let mut rows = vec![
            ["ACTION", "TARGET", "LIFETIME", "REVIEW", "TITLE"]
                .map(String::from)
                .to_vec(),
        ];
        rows.extend(actions.iter().map(|action| {
            let title = action.title.clone();
            vec![
                action.name.clone(),
                action.target.clone(),
                lifetime(action),
                review(action),
                title,
            ]
        }));
        output.lines(&columns(&rows))?;
        Ok(Exit::Ok)
    }
}

fn facts(action: &ActionView) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("action", action.name.clone()),
        ("title", action.title.clone()),
        ("description", action.description.clone()),
        ("target", action.target.clone()),
        ("lifetime", lifetime(action)),
        ("review", review(action)),
    ];
    facts.extend(
        action
            .parameters
            .iter()
            .map(|(name, kind)| ("parameter", format!("{name}: {}", hint(kind)))),
    );
    facts
}

fn lifetime(action: &ActionView) -> String {
    format!(
        "{}, at most {}",
        spell(action.ttl.default_seconds),
        spell(action.ttl.longest_seconds)
    )
}

fn review(action: &ActionView) -> String {
    let groups = action.review.get("groups").and_then(Value::as_object);
    let parts: Vec<_> = groups
        .into_iter()
        .flatten()
        .map(|(group, count)| format!("{count} of {group}"))
        .collect();
    if parts.is_empty() {
        "nobody".into()
    } else {
        parts.join(", ")
    }
}
